/** What the server tells: see `airflow_provider_veo/ui/app.py`. */

export interface Place {
  dag_id: string;
  run_id: string;
  task_id: string;
  map_index: number;
}

export interface Video extends Place {
  key: string;
  id: string | null;
  state: string;
  status: string | null;
  task_state: string | null;
  name: string | null;
  prompt: string | null;
  enhanced_prompt: string | null;
  model: string | null;
  aspect_ratio: string | null;
  error: string | null;
  cost: number | null;
  attempts: number | null;
  submitted_at: string | null;
  finished_at: string | null;
  src: string | null;
  file: string | null;
  file_href: string | null;
  video_url: string | null;
  bytes: number | null;
  width: number | null;
  height: number | null;
  duration_seconds: number | null;
}

export interface Batch extends Place {
  task_state: string | null;
  total: number;
  done: number;
  failed: number;
  generating: number;
  to_submit: number;
  counts: Record<string, number> | null;
  per_minute: number | null;
  seconds_left: number | null;
  cost: number | null;
  since: string | null;
  updated_at: string | null;
}

export interface Pages {
  older: string | null;
  newer: string | null;
}
export type Videos = Pages & { videos: Video[] };
export type Batches = Pages & { batches: Batch[] };
export interface Choices {
  dag_ids: string[];
  models: string[];
  states: string[];
}

/** The server's answer where it is none that was asked for. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

/** Ask the server. */
export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(`api/${path}`, { headers: { Accept: "application/json" }, signal });
  const isJson = answer.headers.get("Content-Type")?.includes("json");
  const content: unknown = isJson ? await answer.json() : null;
  if (!answer.ok || !isJson) {
    throw new Refusal(answer.status, told(content) ?? `The server answered ${answer.status} ${answer.statusText}.`);
  }
  return content as T;
}

function told(content: unknown): string | null {
  const detail = (content as { detail?: unknown } | null)?.detail;
  if (Array.isArray(detail)) {
    return detail.map((each: { msg?: string; loc?: string[] }) => `${each.loc?.at(-1)}: ${each.msg}`).join("; ");
  }
  return typeof detail === "string" ? detail : null;
}

/** Return the path of what belongs to a task instance. */
export const pathOf = (place: Place): string =>
  [place.dag_id, place.run_id, place.task_id, place.map_index].map(encodeURIComponent).join("/");

const UNFINISHED = new Set(["running", "deferred", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "restarting"]);

/** Return whether there may be news of it any moment. */
export const isOpen = (each: Video | Batch): boolean =>
  "total" in each
    ? each.counts === null && (each.task_state === null || UNFINISHED.has(each.task_state))
    : each.state === "generating" || each.state === "waiting";

/** Return the milliseconds until the server is asked again. */
export function interval(shown: (Video | Batch)[] | undefined): number {
  return shown?.some(isOpen) ? 3_000 : 20_000;
}
