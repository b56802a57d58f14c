/** Numbers and times, for people. */

/** Return a duration: `8 s`, `2 min 5 s`, `1 h 12 min`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return `${whole} s`;
  }
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Return the seconds from one moment to another; `null` where one of them isn't known. */
export function seconds(from: string | null, to: string | number | null): number | null {
  if (from === null || to === null) {
    return null;
  }
  const passed = (new Date(to).getTime() - new Date(from).getTime()) / 1000;
  return Number.isFinite(passed) ? passed : null;
}

/** Return a moment, in the words of the reader's place. */
export function moment(iso: string | null): string {
  const time = iso === null ? null : new Date(iso);
  return time && !Number.isNaN(time.getTime()) ? time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "";
}

/** Return a size: `812 KB`, `3.4 MB`. */
export function size(bytes: number): string {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Return a price. Of which currency is not known. */
export const cost = (amount: number): string => `cost ${amount.toLocaleString(undefined, { maximumFractionDigits: 4 })}`;

/** Return an amount of money, which is a string because numbers are not exact. */
export const money = (amount: string): string =>
  new Intl.NumberFormat(undefined, { maximumFractionDigits: 9 }).format(amount as `${number}`);

/** Return a word of Airflow's or of this package's as people read it: `timed out`. */
export const words = (name: string): string => name.replaceAll("_", " ");
