import { Refusal } from "./api";

/** Why there is no answer. */
export function Failure({ error, onRetry }: { error: Error; onRetry: () => void }) {
  const isOut = error instanceof Refusal && error.status === 401;
  return (
    <div role="alert" className="notice">
      <p>{isOut ? "You are not logged in any more. Log in to Airflow again." : error.message}</p>
      <button type="button" onClick={onRetry}>
        Retry
      </button>
    </div>
  );
}
