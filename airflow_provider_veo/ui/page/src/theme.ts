/** Airflow's colours and fonts, as they are around this document, and its choice of light or dark. */

import { airflow } from "./host";

/** Own names, and Airflow's (of Chakra UI) that they are taken from. */
export const TOKENS: Record<string, string> = {
  "--bg": "--chakra-colors-bg",
  "--bg-subtle": "--chakra-colors-bg-subtle",
  "--bg-muted": "--chakra-colors-bg-muted",
  "--fg": "--chakra-colors-fg",
  "--fg-muted": "--chakra-colors-fg-muted",
  "--border": "--chakra-colors-border",
  "--accent": "--chakra-colors-brand-solid",
  "--accent-contrast": "--chakra-colors-brand-contrast",
  "--link": "--chakra-colors-fg-info",
  "--success": "--chakra-colors-success-solid",
  "--failed": "--chakra-colors-failed-solid",
  "--running": "--chakra-colors-running-solid",
  "--queued": "--chakra-colors-queued-solid",
  "--warning": "--chakra-colors-up_for_retry-solid",
};

/** Return whether it is to be dark: as Airflow is, or as it was chosen there, or as the system is. */
export function isDark(): boolean {
  const around = airflow()?.document.documentElement.classList;
  if (around?.contains("dark") || around?.contains("light")) {
    return around.contains("dark");
  }
  const chosen = stored("theme");
  return chosen === "dark" || (chosen !== "light" && window.matchMedia("(prefers-color-scheme: dark)").matches);
}

/** Return what the browser keeps under a name; `null` where it keeps nothing, or may not be asked. */
function stored(name: string): string | null {
  try {
    return window.localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Look like Airflow does now. */
export function apply(): void {
  const root = document.documentElement;
  const dark = isDark();
  root.classList.toggle("dark", dark);
  root.classList.toggle("light", !dark);
  root.style.colorScheme = dark ? "dark" : "light";
  const outer = airflow();
  if (!outer) {
    return;
  }
  const around = outer.getComputedStyle(outer.document.documentElement);
  for (const [own, theirs] of Object.entries(TOKENS)) {
    const value = around.getPropertyValue(theirs).trim();
    if (value) {
      root.style.setProperty(own, value);
    } else {
      root.style.removeProperty(own);
    }
  }
  const font = outer.document.body && outer.getComputedStyle(outer.document.body).fontFamily;
  if (font) {
    root.style.setProperty("--font", font);
  }
}

/** Use the theme of Airflow, and follow its changes. */
export function follow(): void {
  apply();
  const outer = airflow();
  if (outer) {
    new MutationObserver(apply).observe(outer.document.documentElement, { attributeFilter: ["class", "style", "data-theme"] });
  }
  window.addEventListener("storage", apply);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
}
