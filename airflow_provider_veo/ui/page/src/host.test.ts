import { afterEach, expect, test, vi } from "vitest";

import { adopt, base, go, openTab, subscribe, visit } from "./host";

/** Airflow's window, as far as this page touches it. */
function around(search: string) {
  const outer = {
    document,
    location: { search, pathname: "/plugin/veo-videos" },
    history: { state: { idx: 3 }, pushState: vi.fn(), replaceState: vi.fn() },
    dispatchEvent: vi.fn(),
  };
  vi.spyOn(window, "parent", "get").mockReturnValue(outer as unknown as Window);
  return outer;
}

afterEach(() => {
  vi.restoreAllMocks();
  window.history.replaceState(null, "", "/veo/");
});

test("an address that was shared is taken over from Airflow's address bar", () => {
  around("?state=failed&text=a%20b");
  adopt();
  expect(window.location.search).toBe("?state=failed&text=a%20b");
});

test("the page's own address goes before", () => {
  window.history.replaceState(null, "", "?state=succeeded");
  around("?state=failed");
  adopt();
  expect(window.location.search).toBe("?state=succeeded");
});

test("what is shown stands in both addresses, and listeners hear of it", () => {
  const outer = around("");
  const listener = vi.fn();
  const stop = subscribe(listener);
  go("state=failed");
  stop();
  go("");
  expect(outer.history.replaceState.mock.calls.map((call) => call[2])).toEqual([
    "/plugin/veo-videos?state=failed",
    "/plugin/veo-videos",
  ]);
  expect(outer.history.replaceState.mock.calls[0]?.[0]).toEqual({ idx: 3 });
  expect(listener).toHaveBeenCalledTimes(1);
  expect(window.location.search).toBe("");
});

test("back and forward update Airflow's address bar", () => {
  const outer = around("");
  adopt();
  window.history.replaceState(null, "", "?state=failed");
  window.dispatchEvent(new PopStateEvent("popstate"));
  expect(outer.history.replaceState.mock.calls.at(-1)?.[2]).toBe("/plugin/veo-videos?state=failed");
});

test("links to Airflow go through its router", () => {
  const outer = around("");
  expect(visit("https://airflow.example.com/dags/a/runs/b")).toBe(true);
  expect(outer.history.pushState).toHaveBeenCalledWith(null, "", "https://airflow.example.com/dags/a/runs/b");
  expect(outer.dispatchEvent.mock.calls[0]?.[0]).toBeInstanceOf(PopStateEvent);
});

test("without Airflow around it the page leaves links to the browser", () => {
  expect(visit("/dags/a")).toBe(false);
  expect(openTab("https://relay.example.com/a.mp4")).toBe(false);
});

test("a new tab is opened from Airflow's document, and can't look back", () => {
  around("");
  const clicked: HTMLAnchorElement[] = [];
  vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    clicked.push(this);
  });
  expect(openTab("https://relay.example.com/a.mp4")).toBe(true);
  expect(clicked.map((link) => [link.href, link.target, link.rel])).toEqual([
    ["https://relay.example.com/a.mp4", "_blank", "noopener noreferrer"],
  ]);
});

test("Airflow's own address is one level up", () => {
  window.history.replaceState(null, "", "/airflow/veo/?state=failed");
  expect(base()).toBe(`${window.location.origin}/airflow/`);
});
