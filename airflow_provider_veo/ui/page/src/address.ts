/** What is shown stands in the address, so that a view can be reloaded, gone back to, and shared. */

import { useSyncExternalStore } from "react";

import { go, subscribe } from "./host";

export const FILTERS = ["dag_id", "run_id", "state", "model", "from", "to", "text"] as const;
export type Filter = (typeof FILTERS)[number];

/** Return the query of the address, and again whenever it changes. */
export function useAddress(): URLSearchParams {
  return new URLSearchParams(useSyncExternalStore(subscribe, () => window.location.search));
}

/** Return the query with changes; what becomes empty is left out. */
export function changed(query: URLSearchParams, changes: Record<string, string | null>): string {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) {
      next.set(name, value);
    } else {
      next.delete(name);
    }
  }
  return next.toString();
}

/** Filter: from the first page on. */
export function filter(query: URLSearchParams, name: Filter, value: string, replace = false): void {
  go(changed(query, { [name]: value, cursor: null }), replace);
}

/** Return what the server is asked, of the query: some of its filters, and where the page begins. */
export function asked(query: URLSearchParams, names: readonly string[] = FILTERS): string {
  const kept = [...names, "cursor"].flatMap((name) => (query.get(name) ? [[name, query.get(name) as string]] : []));
  return new URLSearchParams(kept).toString();
}
