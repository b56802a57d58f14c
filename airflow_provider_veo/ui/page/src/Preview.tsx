/**
 * What loads posters and videos, and what is shown where nothing may be loaded.
 *
 * Posters are loaded when they are in view, and a video only when it is played. Another host gets no request before a click.
 */

import { type HTMLAttributes, type ReactNode, type RefObject, useEffect, useRef, useState, type VideoHTMLAttributes } from "react";

import { BUSY_RETRIES, retryAfter, spread } from "./api";
import { Outer } from "./Links";

/** Why a stored file isn't shown, and where the setting is explained. */
export const PreviewOff = () => <Outer href="help#page-roots">Preview is off: set [veo] page_roots</Outer>;

/** Why the relay's copy can't be played here. */
export const HostNotAllowed = () => (
  <Outer href="help#page-media-hosts">No preview: its host is not in [veo] page_media_hosts</Outer>
);

/** The relay's copy of a video. Nothing is loaded before a click, and a new URL needs a new one. */
export function RemoteVideo({ src, className }: { src: string; className?: string }) {
  const [clicked, setClicked] = useState<string | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  if (failed === src) {
    return <p className="instead">The relay's URL can't be played. It may have expired.</p>;
  }
  if (clicked !== src) {
    return (
      <p className="instead">
        <button type="button" onClick={() => setClicked(src)}>
          Play from the relay's host
        </button>
        <span>{URL.canParse(src) && new URL(src).host}</span>
      </p>
    );
  }
  return <video className={className} src={src} controls autoPlay muted loop playsInline onError={() => setFailed(src)} />;
}

interface StoredProps extends VideoHTMLAttributes<HTMLVideoElement> {
  href: string;
  element?: RefObject<HTMLVideoElement | null>;
}

/** A stored file, with its own controls as children. While the server is busy it is requested again later. */
export function StoredVideo(props: StoredProps): ReactNode {
  return <Stored key={props.href} {...props} />;
}

function Stored({ href, element, children, ...rest }: StoredProps) {
  const { attempt, phase, onError } = useRetries(href);
  if (phase === "failed") {
    return <p className="instead">The file could not be loaded.</p>;
  }
  if (phase === "busy") {
    return (
      <p className="instead">
        <span className="busy" aria-hidden="true" />
      </p>
    );
  }
  return (
    <>
      <video {...rest} key={attempt} ref={element} src={href} muted loop playsInline onError={onError} />
      {children}
    </>
  );
}

/** The poster of a stored file, loaded when it is scrolled into view. Its place is empty while there is none. */
export function Poster({ href, ...rest }: HTMLAttributes<HTMLElement> & { href: string | null }) {
  return href === null ? <div {...rest} className="poster" /> : <Picture key={href} href={href} {...rest} />;
}

function Picture({ href, ...rest }: HTMLAttributes<HTMLElement> & { href: string }) {
  const { attempt, phase, onError } = useRetries(href);
  if (phase !== "loading") {
    return <div {...rest} className="poster" />;
  }
  return <img {...rest} key={attempt} className="poster" src={href} alt="" loading="lazy" decoding="async" onError={onError} />;
}

type Phase = "loading" | "busy" | "failed";

function useRetries(href: string) {
  const [attempt, setAttempt] = useState(0);
  const [phase, setPhase] = useState<Phase>("loading");
  const gone = useRef(new AbortController());
  useEffect(() => {
    gone.current = new AbortController();
    return () => gone.current.abort();
  }, []);
  const onError = async () => {
    setPhase("busy");
    const { signal } = gone.current;
    const seconds = attempt < BUSY_RETRIES ? await untilRetry(href, attempt, signal) : null;
    if (signal.aborted) {
      return;
    }
    if (seconds === null) {
      setPhase("failed");
      return;
    }
    const retry = () => {
      setAttempt(attempt + 1);
      setPhase("loading");
    };
    const timer = setTimeout(retry, spread(seconds));
    signal.addEventListener("abort", () => clearTimeout(timer));
  };
  return { attempt, phase, onError: () => void onError() };
}

/** Return the seconds until a file may be requested again; `null` if that is no use. An element doesn't tell why it failed. */
async function untilRetry(href: string, attempt: number, signal: AbortSignal): Promise<number | null> {
  try {
    const answer = await fetch(href, { headers: { Range: "bytes=0-0" }, signal });
    void answer.body?.cancel();
    return answer.ok && attempt === 0 ? 1 : retryAfter(answer);
  } catch {
    return null;
  }
}
