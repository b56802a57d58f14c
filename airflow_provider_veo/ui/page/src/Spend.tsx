import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { asked, changed, type Filter } from "./address";
import { ask, type Spend, type SpendRow } from "./api";
import { money } from "./format";
import { Failure } from "./Failure";
import { go } from "./host";
import { Outer } from "./Links";

export const OF_SPEND: readonly Filter[] = ["dag_id", "run_id", "model", "from", "to"];
const MOST_DATES = 8;

/** Return the number at the top of the scale: 1, 2 or 5 with zeros. The bars are drawn with numbers that are not exact. */
export function scale(amounts: string[]): number {
  const most = Math.max(0, ...amounts.map(Number));
  if (!most) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(most));
  return power * ([1, 2, 5].find((step) => step * power >= most) ?? 10);
}

const height = (amount: string, top: number) => ({ height: `${(100 * Number(amount)) / top}%` });

/** The cost of each day as a stacked bar, and beside it what may have been billed. */
function Chart({ spend, by }: { spend: Spend; by: string }) {
  const top = scale(spend.days.flatMap((day) => [day.cost, day.possible_cost]));
  const hasUnknown = spend.days.some((day) => Number(day.possible_cost));
  const every = Math.ceil(spend.days.length / MOST_DATES);
  return (
    <figure className="chart">
      <ul className="legend">
        {spend.series.map((name, index) => (
          <li key={`${index} ${name}`}>
            <span className={`swatch series-${index}`} />
            {name}
          </li>
        ))}
        {hasUnknown && (
          <li>
            <span className="swatch unknown-outcome" />
            may have been billed, not part of the cost
          </li>
        )}
      </ul>
      <div className="plot" role="img" aria-label={`Bar chart: cost by day and ${by}. The table below has the numbers.`}>
        <div className="axis">
          <span>{money(String(top))}</span>
          <span>{money(String(top / 2))}</span>
          <span>0</span>
        </div>
        <div className="days">
          {spend.days.map((day, index) => (
            <div className="day" key={day.day} title={tip(day.day, day.cost, day.possible_cost)}>
              <div className="bars">
                <div className="bar">
                  {day.parts.map((part, series) => (
                    <span key={series} className={`series-${series}`} style={height(part, top)} />
                  ))}
                </div>
                {hasUnknown && (
                  <div className="bar">
                    {Number(day.possible_cost) > 0 && <span className="unknown-outcome" style={height(day.possible_cost, top)} />}
                  </div>
                )}
              </div>
              <span className="date">{index % every === 0 ? day.day.slice(5) : ""}</span>
            </div>
          ))}
        </div>
      </div>
    </figure>
  );
}

const tip = (day: string, cost: string, possible: string): string =>
  `${day}: cost ${money(cost)}${Number(possible) ? `; may have been billed: ${money(possible)}` : ""}`;

const count = (number: number, one: string, many = `${one}s`): string => `${number} ${number === 1 ? one : many}`;

function Numbers({ row }: { row: Omit<SpendRow, "day" | "dag_id" | "model"> }) {
  return (
    <>
      <td>{row.videos}</td>
      <td>{money(row.cost)}</td>
      <td>{row.unpriced || ""}</td>
      <td>{row.unknown || ""}</td>
      <td>{Number(row.possible_cost) ? money(row.possible_cost) : ""}</td>
    </>
  );
}

function Table({ spend }: { spend: Spend }) {
  return (
    <div className="table" role="region" aria-label="Spend" tabIndex={0}>
      <table>
        <caption className="hidden">Spend by day, DAG and model</caption>
        <thead>
          <tr>
            {["Day", "DAG", "Model"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
            {["Videos", "Cost", "Without a price", "Unknown", "May have been billed"].map((name) => (
              <th key={name} scope="col" className="number">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {spend.rows.map((row) => (
            <tr key={`${row.day} ${row.dag_id} ${row.model ?? ""}`}>
              <td>{row.day}</td>
              <td>{row.dag_id}</td>
              <td>{row.model ?? "(no model)"}</td>
              <Numbers row={row} />
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row" colSpan={3}>
              Total
            </th>
            <Numbers row={spend.total} />
          </tr>
        </tfoot>
      </table>
    </div>
  );
}

/** What the numbers leave out. */
function Notes({ spend }: { spend: Spend }) {
  const { unpriced, unknown } = spend.total;
  const notes = [
    spend.complete_after && `There are more records than this page reads. Numbers up to ${spend.complete_after} are incomplete: choose fewer days, or a DAG.`,
    unpriced && `The cost of ${count(unpriced, "job")} is not known and not included: the connection has no price for the model.`,
    unknown && `${count(unknown, "job")} may have been billed, because the relay's answer was lost. Not part of the cost.`,
    spend.unreadable && `${count(spend.unreadable, "record")} can't be shown.`,
    spend.more_rows && `The table has the newest ${spend.rows.length} rows; the file has ${spend.more_rows} more.`,
  ].filter(Boolean);
  return notes.length ? (
    <ul className="notes">
      {notes.map((note) => (
        <li key={note as string}>{note}</li>
      ))}
    </ul>
  ) : null;
}

/** What videos cost, by day, DAG and model. */
export function SpendView({ query }: { query: URLSearchParams }) {
  const by = query.get("by") === "dag_id" ? "dag_id" : "model";
  const filters = asked(query, OF_SPEND);
  const answer = useQuery({
    queryKey: ["spend", filters, by],
    queryFn: ({ signal }) => ask<Spend>(`spend?by=${by}&${filters}`, signal),
    placeholderData: keepPreviousData,
  });
  if (answer.error && (!answer.data || answer.isPlaceholderData)) {
    return <Failure error={answer.error} onRetry={() => void answer.refetch()} />;
  }
  if (!answer.data) {
    return <div className="skeleton" aria-busy="true" aria-label="Loading" role="status" />;
  }
  const spend = answer.data;
  return (
    <>
      <p className="count" aria-live="polite">
        {spend.rows.length
          ? `${spend.from} to ${spend.to}: cost ${money(spend.total.cost)} for ${count(spend.total.videos, "video")}`
          : `${spend.from} to ${spend.to}: nothing was spent, or Airflow no longer has the XComs`}
      </p>
      <Notes spend={spend} />
      {spend.rows.length > 0 && (
        <>
          <p className="facts">
            <label>
              Stack by{" "}
              <select value={by} onChange={(event) => go(changed(query, { by: event.target.value }))}>
                <option value="model">model</option>
                <option value="dag_id">DAG</option>
              </select>
            </label>
            <Outer href={`api/spend.csv?${filters}`}>Download CSV</Outer>
          </p>
          <Chart spend={spend} by={by === "model" ? "model" : "DAG"} />
          <Table spend={spend} />
        </>
      )}
    </>
  );
}
