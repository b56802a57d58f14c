import { expect, test } from "vitest";

import { changed } from "./address";
import { interval, isOpen, pathOf, type Batch, type Video } from "./api";
import { cost, duration, moment, seconds, size, words } from "./format";

test.each([
  [0.4, "0 s"],
  [59.4, "59 s"],
  [60, "1 min 0 s"],
  [125, "2 min 5 s"],
  [4320, "1 h 12 min"],
  [-3, "0 s"],
])("%s seconds are %s", (given, text) => {
  expect(duration(given)).toBe(text);
});

test("the seconds between two moments, of any time zones", () => {
  expect(seconds("2026-11-22T02:00:00+01:00", "2026-11-22T01:01:00Z")).toBe(60);
  expect(seconds(null, "2026-11-22T01:01:00Z")).toBeNull();
  expect(seconds("nonsense", "2026-11-22T01:01:00Z")).toBeNull();
});

test("what is not known is not said", () => {
  expect(moment(null)).toBe("");
  expect(moment("nonsense")).toBe("");
  expect(moment("2026-11-22T02:00:00Z")).toContain("2026");
});

test("sizes, prices and words", () => {
  expect([size(200), size(812_345), size(3_400_000)]).toEqual(["1 KB", "812 KB", "3.4 MB"]);
  expect([cost(0.4), cost(15.25)]).toEqual(["cost 0.4", "cost 15.25"]);
  expect(words("timed_out")).toBe("timed out");
});

const video = (state: string) => ({ state, task_state: "success" }) as Video;
const batch = (task_state: string | null, counts: Record<string, number> | null) => ({ task_state, counts, total: 3 }) as Batch;

test("the server is asked often only while there may be news", () => {
  expect(interval([video("succeeded"), video("generating")])).toBe(3000);
  expect(interval([video("succeeded"), video("failed")])).toBe(20000);
  expect(interval(undefined)).toBe(20000);
  expect([batch("deferred", null), batch("running", null), batch(null, null)].every(isOpen)).toBe(true);
  expect([batch("success", { succeeded: 3 }), batch("failed", null)].some(isOpen)).toBe(false);
});

test("a changed query keeps the rest, and has nothing empty", () => {
  const query = new URLSearchParams("state=failed&cursor=abc&text=a+b");
  expect(changed(query, { state: "", cursor: null, model: "veo3" })).toBe("text=a+b&model=veo3");
});

test("paths are made of any ids", () => {
  expect(pathOf({ dag_id: "a/b", run_id: "scheduled__2026-11-22T02:00:00+00:00", task_id: "t", map_index: -1 })).toBe(
    "a%2Fb/scheduled__2026-11-22T02%3A00%3A00%2B00%3A00/t/-1",
  );
});
