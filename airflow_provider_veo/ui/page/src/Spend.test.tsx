import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";

import type { Spend } from "./api";
import { App } from "./App";
import { scale } from "./Spend";

let asked: string[] = [];

/** The server: what it answers when it is asked for the spend. */
function serve(spend: Spend) {
  asked = [];
  vi.stubGlobal("fetch", async (path: string) => {
    asked.push(path);
    const content = path.startsWith("api/spend") ? spend : { dag_ids: ["nightly"], models: ["veo3-fast"], states: [] };
    return new Response(JSON.stringify(content), { headers: { "Content-Type": "application/json" } });
  });
}

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const show = () =>
  render(
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
      <App />
    </QueryClientProvider>,
  );

const SPEND: Spend = {
  from: "2026-11-21",
  to: "2026-11-23",
  series: ["veo3", "veo3-fast", "(others)"],
  days: [
    { day: "2026-11-21", parts: ["0", "0", "0"], cost: "0", possible_cost: "0" },
    { day: "2026-11-22", parts: ["6", "3.5", "0.5"], cost: "10", possible_cost: "0.4" },
    { day: "2026-11-23", parts: ["0", "0.1", "0"], cost: "0.1", possible_cost: "0" },
  ],
  rows: [
    { day: "2026-11-23", dag_id: "nightly", model: "veo3-fast", videos: 1, unpriced: 0, unknown: 0, cost: "0.1", possible_cost: "0" },
    { day: "2026-11-22", dag_id: "nightly", model: null, videos: 3, unpriced: 2, unknown: 1, cost: "1234567.000000001", possible_cost: "0.4" },
  ],
  more_rows: 0,
  total: { videos: 4, unpriced: 2, unknown: 1, cost: "10.1", possible_cost: "0.4" },
  unreadable: 0,
  complete_after: null,
};
const cells = (row: HTMLElement) => within(row).getAllByRole("cell").map((cell) => cell.textContent);

test("the spend is a chart and a table, and what may have been billed is apart", async () => {
  serve(SPEND);
  window.history.replaceState(null, "", "/veo/?view=spend&dag_id=nightly");
  show();
  expect(await screen.findByText("2026-11-21 to 2026-11-23: cost 10.1 for 4 videos")).toBeTruthy();
  const rows = within(screen.getByRole("table", { name: "Spend by day, DAG and model" })).getAllByRole("row");
  expect(rows.slice(1, 3).map(cells)).toEqual([
    ["2026-11-23", "nightly", "veo3-fast", "1", "0.1", "", "", ""],
    ["2026-11-22", "nightly", "(no model)", "3", "1,234,567.000000001", "2", "1", "0.4"],
  ]);
  expect(cells(rows[3] as HTMLElement)).toEqual(["4", "10.1", "2", "1", "0.4"]);
  expect(screen.getByText(/^1 job may have been billed/).textContent).toContain("Not part of the cost");
  expect(screen.getByText(/^The cost of 2 jobs is not known/)).toBeTruthy();
  const chart = screen.getByRole("img", { name: /^Bar chart: cost by day and model/ });
  const heights = [...chart.querySelectorAll<HTMLElement>(".day")].map((day) =>
    [...day.querySelectorAll<HTMLElement>(".bar > span")].map((part) => part.style.height),
  );
  expect(heights).toEqual([["0%", "0%", "0%"], ["60%", "35%", "5%", "4%"], ["0%", "1%", "0%"]]);
  expect(screen.getByText("may have been billed, not part of the cost")).toBeTruthy();
  expect(asked).toContain("api/spend?by=model&dag_id=nightly");
  const link = screen.getByRole("link", { name: "Download CSV" }) as HTMLAnchorElement;
  expect(link.href).toMatch(/\/veo\/api\/spend\.csv\?dag_id=nightly$/);
});

test("the spend says what it leaves out, and how it is stacked is in the address", async () => {
  serve({ ...SPEND, complete_after: "2026-11-21", unreadable: 1, more_rows: 700 });
  window.history.replaceState(null, "", "/veo/?view=spend");
  show();
  await userEvent.selectOptions(await screen.findByLabelText("Stack by"), "DAG");
  await waitFor(() => expect(asked).toContain("api/spend?by=dag_id&"));
  expect(window.location.search).toBe("?view=spend&by=dag_id");
  expect(screen.getByText(/^There are more records than this page reads. Numbers up to 2026-11-21/)).toBeTruthy();
  expect(screen.getByText("1 record can't be shown.")).toBeTruthy();
  expect(screen.getByText("The table has the newest 2 rows; the file has 700 more.")).toBeTruthy();
});

test("without any spend there is no chart", async () => {
  serve({ ...SPEND, rows: [], series: [], total: { ...SPEND.total, videos: 0, unpriced: 0, unknown: 0, cost: "0" } });
  window.history.replaceState(null, "", "/veo/?view=spend");
  show();
  expect(await screen.findByText(/nothing was spent/)).toBeTruthy();
  expect(screen.queryByRole("table")).toBeNull();
});

test.each([
  [[], 1],
  [["0"], 1],
  [["0.03"], 0.05],
  [["10", "10.1"], 20],
  [["99"], 100],
  [["100"], 100],
])("the scale for %s ends at %s", (amounts, top) => {
  expect(scale(amounts)).toBeCloseTo(top);
});
