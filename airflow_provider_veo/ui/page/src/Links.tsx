import type { MouseEvent, ReactNode } from "react";

import type { Place } from "./api";
import { base, go, openTab, visit } from "./host";

/** A click with another button than the first, which no `click` is made of. */
const inTab = (href: string) => (event: MouseEvent) => {
  if (event.button === 1 && openTab(href)) {
    event.preventDefault();
  }
};

const isPlain = (event: MouseEvent) => event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;

/** A link within this page. */
export function Inner({ search, children, ...rest }: { search: string; children: ReactNode; "aria-current"?: "page" }) {
  const shared = `${base()}plugin/veo-videos${search ? `?${search}` : ""}`;
  return (
    <a
      {...rest}
      href={search ? `?${search}` : "?"}
      onAuxClick={inTab(shared)}
      onClick={(event) => {
        if (isPlain(event)) {
          event.preventDefault();
          go(search);
        } else if (openTab(shared)) {
          event.preventDefault();
        }
      }}
    >
      {children}
    </a>
  );
}

/** A link to a page of Airflow's. */
export function ToAirflow({ path, children }: { path: string; children: ReactNode }) {
  const href = base() + path;
  return (
    <a
      href={href}
      onAuxClick={inTab(href)}
      onClick={(event) => {
        if (isPlain(event) ? visit(href) : openTab(href)) {
          event.preventDefault();
        }
      }}
    >
      {children}
    </a>
  );
}

/** A link to anything else, in a tab of its own. */
export function Outer({ href, children }: { href: string; children: ReactNode }) {
  const address = URL.canParse(href, document.baseURI) ? new URL(href, document.baseURI).href : "";
  if (!/^https?:/.test(address)) {
    return <span>{children}</span>;
  }
  return (
    <a
      href={address}
      onAuxClick={inTab(address)}
      target="_blank"
      rel="noopener noreferrer"
      onClick={(event) => {
        if (openTab(address)) {
          event.preventDefault();
        }
      }}
    >
      {children}
    </a>
  );
}

const part = encodeURIComponent;

/** Return the path of a DAG run in Airflow. */
export const runPath = (of: Place): string => `dags/${part(of.dag_id)}/runs/${part(of.run_id)}`;

/** Return the path of the questions of a DAG run that wait for an answer. */
export const approvalPath = (of: Place): string => `${runPath(of)}/required_actions?response_received=false`;

const isMapped = (of: Place): boolean => (of.region_id === undefined ? of.map_index >= 0 : of.is_mapped === true);

/** Return the path of a task instance in Airflow. */
export const taskPath = (of: Place): string => {
  const path = `${runPath(of)}/tasks/${part(of.task_id)}${isMapped(of) ? `/mapped/${of.map_index}` : ""}`;
  return of.region_id === undefined ? path : `${path}?region_id=${part(of.region_id)}&region_index=${of.map_index}`;
};

/** Return the name of a task instance: its task, map index and iteration. */
export const taskName = (of: Place): string => {
  const name = isMapped(of) ? `${of.task_id} [${of.map_index}]` : of.task_id;
  return of.iteration === undefined ? name : `${name}, iteration ${of.iteration}`;
};
