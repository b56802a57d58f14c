import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { apply, isDark } from "./theme";

const root = document.documentElement;

function around(className: string, variables: Record<string, string>) {
  const theirs = document.implementation.createHTMLDocument();
  theirs.documentElement.className = className;
  const outer = {
    document: theirs,
    getComputedStyle: () => ({ getPropertyValue: (name: string) => variables[name] ?? "", fontFamily: "Inter" }),
  };
  vi.spyOn(window, "parent", "get").mockReturnValue(outer as unknown as Window);
}

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  window.localStorage.clear();
  root.removeAttribute("style");
});

test("it has Airflow's colours, and its own where Airflow has none", () => {
  around("dark", { "--chakra-colors-bg": " #123456 " });
  root.style.setProperty("--fg", "#000000");
  apply();
  expect(root.classList.contains("dark")).toBe(true);
  expect(root.style.getPropertyValue("--bg")).toBe("#123456");
  expect(root.style.getPropertyValue("--fg")).toBe("");
  expect(root.style.getPropertyValue("--font")).toBe("Inter");
});

test("Airflow's choice goes before the system's", () => {
  vi.stubGlobal("matchMedia", () => ({ matches: true, addEventListener: () => undefined }));
  around("light", {});
  expect(isDark()).toBe(false);
});

test("by itself it goes by what was chosen in Airflow, and else by the system", () => {
  expect(isDark()).toBe(false);
  window.localStorage.setItem("theme", "dark");
  expect(isDark()).toBe(true);
  vi.stubGlobal("matchMedia", () => ({ matches: true, addEventListener: () => undefined }));
  window.localStorage.setItem("theme", "light");
  expect(isDark()).toBe(false);
  window.localStorage.setItem("theme", "system");
  expect(isDark()).toBe(true);
});
