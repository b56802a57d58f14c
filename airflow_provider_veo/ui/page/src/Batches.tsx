import { type Batch, type Broken, pathOf } from "./api";
import { Badge, BrokenCard } from "./Card";
import { cost, duration, moment, words } from "./format";
import { approvalPath, Inner, runPath, taskName, taskPath, ToAirflow } from "./Links";
import { PreviewOff } from "./Preview";

const SEGMENTS = ["done", "failed", "generating"] as const;

/** How far a batch is, as a bar. */
export function Progress({ batch }: { batch: Batch }) {
  const ended = batch.done + batch.failed;
  return (
    <div
      className="progress"
      role="progressbar"
      aria-label={`Videos of ${batch.dag_id}`}
      aria-valuemin={0}
      aria-valuemax={batch.total}
      aria-valuenow={ended}
      aria-valuetext={`${batch.done} of ${batch.total} done, ${batch.failed} failed, ${batch.generating} generating`}
    >
      {SEGMENTS.map((name) => (
        <span key={name} className={name} style={{ width: `${batch.total ? (100 * batch[name]) / batch.total : 0}%` }} />
      ))}
    </div>
  );
}

/** What the numbers say, in words. */
function Numbers({ batch }: { batch: Batch }) {
  const counts = batch.counts
    ? Object.entries(batch.counts)
        .filter(([, count]) => count > 0)
        .map(([state, count]) => `${count} ${words(state)}`)
    : [`${batch.failed} failed`, `${batch.generating} generating`, `${batch.to_submit} to submit`];
  const rate = batch.per_minute === null ? [] : [`${batch.per_minute.toFixed(1)}/min`];
  const left = batch.seconds_left === null ? [] : [`about ${duration(batch.seconds_left)} left`];
  const price = batch.cost === null ? [] : [cost(batch.cost)];
  return (
    <p className="facts">
      {[`${batch.done} of ${batch.total} done`, ...counts, ...rate, ...left, ...price].map((fact) => (
        <span key={fact}>{fact}</span>
      ))}
    </p>
  );
}

/** A batch, with how far it is. */
export function BatchCard({ batch, isOpened = false }: { batch: Batch | Broken; isOpened?: boolean }) {
  if (batch.broken) {
    return <BrokenCard record={batch} />;
  }
  const region: Record<string, string> = batch.region_id === undefined ? {} : { region: batch.region_id };
  const search = new URLSearchParams({ batch: pathOf(batch), ...region }).toString();
  return (
    <li className="batch">
      <p className="head">
        <Badge state={batch.task_state ?? "none"} />
        <time dateTime={batch.updated_at ?? undefined}>{moment(batch.updated_at)}</time>
      </p>
      <h3>
        {batch.dag_id}: {taskName(batch)}
      </h3>
      <Progress batch={batch} />
      <Numbers batch={batch} />
      {batch.preview === "off" && !isOpened && (
        <p className="facts">
          <PreviewOff />
        </p>
      )}
      <p className="ways">
        {!isOpened && <Inner search={search}>{`${batch.total} videos`}</Inner>}
        <ToAirflow path={runPath(batch)}>{batch.run_id}</ToAirflow>
        <ToAirflow path={taskPath(batch)}>task</ToAirflow>
        {batch.awaits_approval && <ToAirflow path={approvalPath(batch)}>waits for an approval</ToAirflow>}
      </p>
    </li>
  );
}
