/** Previews load a few at a time: a browser has six connections to a server, and Airflow's own page needs some of them. */

const AT_A_TIME = 3;

const waiting = new Set<() => void>();
let loading = 0;

function next(): void {
  for (const start of waiting) {
    if (loading >= AT_A_TIME) {
      return;
    }
    waiting.delete(start);
    loading += 1;
    start();
  }
}

/** Call `start` when it is this one's turn. Return what ends the turn, or the waiting for it. */
export function enqueue(start: () => void): () => void {
  let state: "waiting" | "loading" | "over" = "waiting";
  const begin = () => {
    state = "loading";
    start();
  };
  waiting.add(begin);
  next();
  return () => {
    if (state === "loading") {
      loading -= 1;
    }
    waiting.delete(begin);
    state = "over";
    next();
  };
}
