/** What the server tells: see `airflow_provider_veo/ui/app.py`. */

export interface Place {
  dag_id: string;
  run_id: string;
  task_id: string;
  /** In a task loop: the number of the iteration, unless the task is mapped. */
  map_index: number;
  /** Only in a task loop, whose iterations have all of the above in common. */
  region_id?: string;
  iteration?: number;
  is_mapped?: boolean;
}

export interface Video extends Place {
  key: string;
  broken?: false;
  id: string | null;
  state: string;
  status: string | null;
  task_state: string | null;
  name: string | null;
  prompt: string | null;
  /** What was sent in place of a prompt that the safety filter blocked. */
  reworded_prompt: string | null;
  enhanced_prompt: string | null;
  model: string | null;
  aspect_ratio: string | null;
  error: string | null;
  cost: number | null;
  attempts: number | null;
  submitted_at: string | null;
  finished_at: string | null;
  file: string | null;
  /** The stored file's address at this server; `null` where the page may not read it. */
  file_href: string | null;
  /** The address of its poster at this server; `null` if it has none. */
  poster_href: string | null;
  /** The relay's URL, where its host may be played from. Loaded only after a click. */
  remote_src: string | null;
  /** A link to open, never loaded by the page itself. */
  video_url: string | null;
  preview: "file" | "remote" | "off" | null;
  bytes: number | null;
  width: number | null;
  height: number | null;
  duration_seconds: number | null;
}

export interface Batch extends Place {
  broken?: false;
  preview: "off" | null;
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
  /** A task of its run waits for a person's answer. */
  awaits_approval: boolean;
}

/** A record that can't be shown. */
export interface Broken extends Place {
  broken: true;
  key?: string;
  error: string;
}

export interface Pages {
  older: string | null;
  newer: string | null;
  /** `off`: there are videos, but the page may not read the folder that lists them. */
  preview?: "off" | null;
}
export type Videos = Pages & { videos: (Video | Broken)[] };
export type Batches = Pages & { batches: (Batch | Broken)[] };
export interface Choices {
  dag_ids: string[];
  models: string[];
  states: string[];
}

/** What was spent on a day, by a DAG, with a model. Amounts are strings, because they are exact. */
export interface SpendRow {
  day: string;
  dag_id: string;
  model: string | null;
  /** Submissions that were accepted. */
  videos: number;
  /** Jobs whose cost is not known. */
  unpriced: number;
  /** Jobs that may have been billed. */
  unknown: number;
  cost: string;
  /** What may have been billed: never part of the cost. */
  possible_cost: string;
}

export interface Spend {
  from: string;
  to: string;
  series: string[];
  /** `parts` has the cost by series. */
  days: { day: string; parts: string[]; cost: string; possible_cost: string }[];
  rows: SpendRow[];
  more_rows: number;
  total: Omit<SpendRow, "day" | "dag_id" | "model">;
  unreadable: number;
  /** The day after which nothing is missing; `null`: everything was read. */
  complete_after: string | null;
}

/** The server's answer to a request that it didn't serve. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    detail: string,
    /** Seconds after which the server accepts another try; `null` if it didn't say. */
    readonly retryAfter: number | null = null,
  ) {
    super(detail);
  }
}

/** Read `Retry-After` of a busy server, in seconds; `null` for any other answer. */
export function retryAfter(answer: Response): number | null {
  const told = answer.status === 503 ? answer.headers.get("Retry-After") : null;
  return told !== null && /^\d{1,9}$/.test(told) ? Math.min(Math.max(Number(told), 1), 60) : null;
}

/** Return milliseconds to wait, spread so that cards refused together don't come back together. */
export const spread = (seconds: number): number => seconds * 1000 * (1 + Math.random() / 2);

/** Retries of a request that a busy server refused. */
export const BUSY_RETRIES = 8;

/** When to send a request again, and when to report the error. */
export const RETRIES = {
  retry: (count: number, error: Error): boolean =>
    error instanceof Refusal && error.retryAfter !== null
      ? count < BUSY_RETRIES
      : count < 2 && !(error instanceof Refusal && error.status < 500),
  retryDelay: (count: number, error: Error): number =>
    error instanceof Refusal && error.retryAfter !== null ? spread(error.retryAfter) : Math.min(1000 * 2 ** count, 30_000),
};

/** Ask the server. */
export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(`api/${path}`, { headers: { Accept: "application/json" }, signal });
  const isJson = answer.headers.get("Content-Type")?.includes("json");
  const content: unknown = isJson ? await answer.json() : null;
  if (!answer.ok || !isJson) {
    const detail = told(content) ?? `The server answered ${answer.status} ${answer.statusText}.`;
    throw new Refusal(answer.status, detail, retryAfter(answer));
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
export const isOpen = (each: Video | Batch | Broken): boolean =>
  each.broken
    ? false
    : "total" in each
      ? each.counts === null && (each.task_state === null || UNFINISHED.has(each.task_state))
      : each.state === "generating" || each.state === "waiting";

/** Return the milliseconds until the server is asked again. */
export function interval(shown: (Video | Batch | Broken)[] | undefined): number {
  return shown?.some(isOpen) ? 3_000 : 20_000;
}
