import { useEffect, useRef, useState } from "react";

import type { Video } from "./api";
import { duration, seconds, words } from "./format";

let playing: HTMLVideoElement | null = null;

function play(video: HTMLVideoElement) {
  if (playing !== video) {
    playing?.pause();
  }
  playing = video;
  void video.play().catch(() => undefined); // it was stopped before it began, or can't be played: onError tells
}

/** The seconds since a moment, counted while somebody looks. */
export function Clock({ since }: { since: string }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const passed = seconds(since, now);
  return passed === null ? null : <span>{duration(passed)}</span>;
}

const WHY_NOT: Record<string, string> = {
  succeeded: "The video's address is not known.",
  submitted: "No task of its run has waited for it.",
};

/** What is in the place of a video that is not there. */
function Instead({ video }: { video: Video }) {
  const isOpen = video.state === "generating" || video.state === "waiting";
  if (!isOpen) {
    return <p className="instead">{WHY_NOT[video.state] ?? "There is no video."}</p>;
  }
  return (
    <div className="instead">
      <span className="busy" aria-hidden="true" />
      <p>{video.state === "waiting" ? "waits to be submitted" : words(video.status ?? "being submitted")}</p>
      {video.state === "generating" && video.submitted_at && <Clock since={video.submitted_at} />}
    </div>
  );
}

/** The video itself; it plays when it is pointed at, or asked to. */
export function Player({ video, onOpen }: { video: Video; onOpen: () => void }) {
  const element = useRef<HTMLVideoElement>(null);
  const [isPlaying, setPlaying] = useState(false);
  const [failed, setFailed] = useState<string | null>(null);
  const shape = video.aspect_ratio === "9:16" ? "tall" : "wide";
  if (!video.src || failed === video.src) {
    return (
      <div className={`media ${shape}`}>
        {video.src ? (
          <p className="instead">
            {video.file_href ? "The file could not be loaded." : "The relay's URL has expired, and no file was stored."}
          </p>
        ) : (
          <Instead video={video} />
        )}
      </div>
    );
  }
  const name = video.name ?? video.prompt ?? "the video";
  return (
    <div className={`media ${shape}`}>
      <video
        ref={element}
        src={video.src}
        preload="metadata"
        muted
        loop
        playsInline
        tabIndex={-1}
        onMouseEnter={(event) => play(event.currentTarget)}
        onMouseLeave={(event) => event.currentTarget.pause()}
        onPlay={() => setPlaying(true)}
        onPause={() => setPlaying(false)}
        onError={() => setFailed(video.src)}
        onClick={onOpen}
      />
      <button
        type="button"
        className="play"
        aria-label={`${isPlaying ? "Pause" : "Play"} ${name}`}
        onClick={() => element.current && (isPlaying ? element.current.pause() : play(element.current))}
      >
        <span aria-hidden="true">{isPlaying ? "❚❚" : "▶"}</span>
      </button>
    </div>
  );
}
