import { useEffect, useState } from "react";

import { changed, type Filter, filter, FILTERS } from "./address";
import type { Choices } from "./api";
import { words } from "./format";
import { go } from "./host";

const LABELS: Record<Filter, string> = {
  dag_id: "DAG",
  run_id: "Run",
  state: "State",
  model: "Model",
  from: "From",
  to: "To",
  text: "Prompt contains",
};
const MILLISECONDS_OF_REST = 400;

interface Props {
  query: URLSearchParams;
  name: Filter;
}

function Choice({ query, name, options }: Props & { options: string[] }) {
  const chosen = query.get(name) ?? "";
  const offered = chosen && !options.includes(chosen) ? [chosen, ...options] : options;
  return (
    <label>
      {LABELS[name]}
      <select value={chosen} onChange={(event) => filter(query, name, event.target.value)}>
        <option value="">all</option>
        {offered.map((option) => (
          <option key={option} value={option}>
            {name === "state" ? words(option) : option}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A field that is heeded when there was no key for a moment. */
function Field({ query, name, type = "text", list }: Props & { type?: string; list?: string[] }) {
  const known = query.get(name) ?? "";
  const [value, setValue] = useState(known);
  useEffect(() => setValue(known), [known]);
  useEffect(() => {
    if (value === known) {
      return undefined;
    }
    const timer = setTimeout(() => filter(new URLSearchParams(window.location.search), name, value, true), MILLISECONDS_OF_REST);
    return () => clearTimeout(timer);
  }, [value, known, name]);
  return (
    <label>
      {LABELS[name]}
      <input
        type={type}
        value={value}
        list={list && `${name}-list`}
        onChange={(event) => setValue(event.target.value)}
      />
      {list && (
        <datalist id={`${name}-list`}>
          {list.map((option) => (
            <option key={option} value={option} />
          ))}
        </datalist>
      )}
    </label>
  );
}

/** What is to be shown. */
export function Filters({ query, choices, names }: { query: URLSearchParams; choices?: Choices; names: readonly Filter[] }) {
  const fields: Record<Filter, React.ReactNode> = {
    dag_id: <Choice query={query} name="dag_id" options={choices?.dag_ids ?? []} />,
    run_id: <Field query={query} name="run_id" type="search" />,
    state: <Choice query={query} name="state" options={choices?.states ?? []} />,
    model: <Field query={query} name="model" list={choices?.models ?? []} />,
    from: <Field query={query} name="from" type="date" />,
    to: <Field query={query} name="to" type="date" />,
    text: <Field query={query} name="text" type="search" />,
  };
  const none = Object.fromEntries([...FILTERS, "cursor"].map((name) => [name, null]));
  return (
    <form role="search" aria-label="Filters" className="filters" onSubmit={(event) => event.preventDefault()}>
      {names.map((name) => (
        <div key={name}>{fields[name]}</div>
      ))}
      {names.some((name) => query.get(name)) && (
        <button type="button" onClick={() => go(changed(query, none))}>
          Clear filters
        </button>
      )}
    </form>
  );
}
