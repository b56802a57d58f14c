/**
 * Airflow around this document: its address bar, its router.
 *
 * Airflow shows the page in an iframe of its own origin that may run scripts, but not navigate the window or open others.
 * So what navigates is done from Airflow's own document. Without Airflow around it the page is an ordinary one.
 */

/** Return Airflow's window; `null` where this document is by itself, or in a window that it may not look into. */
export function airflow(): Window | null {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
}

/** Return the address of Airflow itself, which ends in a slash. */
export const base = (): string => new URL("..", document.baseURI).href;

const listeners = new Set<() => void>();

/** Call back whenever the address has changed. */
export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener("popstate", listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener("popstate", listener);
  };
}

/** Take over what the address bar says, where that is Airflow's: somebody has opened an address that was shared. */
export function adopt(): void {
  const search = airflow()?.location.search;
  if (search && !window.location.search) {
    window.history.replaceState(null, "", search);
  }
  window.addEventListener("popstate", tell); // back and forward within the frame
}

/** Let Airflow's address bar say what is shown. It is not pushed: the frame's own entry in the history is enough. */
function tell(): void {
  const outer = airflow();
  outer?.history.replaceState(outer.history.state, "", outer.location.pathname + window.location.search);
}

/** Show another view, and its address in the address bar. */
export function go(search: string, replace = false): void {
  const address = search ? `?${search}` : window.location.pathname;
  window.history[replace ? "replaceState" : "pushState"](null, "", address);
  tell();
  listeners.forEach((listener) => listener());
}

/** Follow a link to a page of Airflow's in its own window; return whether that was possible. */
export function visit(href: string): boolean {
  const outer = airflow();
  if (!outer) {
    return false;
  }
  outer.history.pushState(null, "", href);
  outer.dispatchEvent(new PopStateEvent("popstate", { state: null }));
  return true;
}

/** Open an address in a new tab, from Airflow's document where there is one; return whether that was necessary. */
export function openTab(href: string): boolean {
  const outer = airflow();
  if (!outer) {
    return false;
  }
  const link = outer.document.createElement("a");
  link.href = href;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.click();
  return true;
}
