import { type ReactNode, useEffect, useRef, useState } from "react";

import type { Video } from "./api";
import { duration, seconds, words } from "./format";
import { HostNotAllowed, PreviewOff, RemoteVideo, StoredVideo } from "./Preview";

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
  if (!isOpen && video.video_url !== null) {
    return (
      <p className="instead">
        <HostNotAllowed />
      </p>
    );
  }
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

/** The preview of a video: the stored file, the relay's copy after a click, or why there is none. */
export function Player({ video, onOpen }: { video: Video; onOpen: () => void }) {
  const shape = video.aspect_ratio === "9:16" ? "tall" : "wide";
  return <div className={`media ${shape}`}>{preview(video, onOpen)}</div>;
}

function preview(video: Video, onOpen: () => void): ReactNode {
  if (video.file_href !== null) {
    return <FilePlayer href={video.file_href} name={video.name ?? video.prompt ?? "the video"} onOpen={onOpen} />;
  }
  if (video.remote_src !== null) {
    return <RemoteVideo src={video.remote_src} />;
  }
  if (video.preview === "off") {
    return (
      <p className="instead">
        <PreviewOff />
      </p>
    );
  }
  return <Instead video={video} />;
}

/** A stored file; it plays when it is pointed at, or by its button. */
function FilePlayer({ href, name, onOpen }: { href: string; name: string; onOpen: () => void }) {
  const element = useRef<HTMLVideoElement>(null);
  const [isPlaying, setPlaying] = useState(false);
  return (
    <StoredVideo
      href={href}
      element={element}
      tabIndex={-1}
      onMouseEnter={(event) => play(event.currentTarget)}
      onMouseLeave={(event) => event.currentTarget.pause()}
      onPlay={() => setPlaying(true)}
      onPause={() => setPlaying(false)}
      onClick={onOpen}
    >
      <button
        type="button"
        className="play"
        aria-label={`${isPlaying ? "Pause" : "Play"} ${name}`}
        onClick={() => element.current && (isPlaying ? element.current.pause() : play(element.current))}
      >
        <span aria-hidden="true">{isPlaying ? "❚❚" : "▶"}</span>
      </button>
    </StoredVideo>
  );
}
