import { type ReactNode, useEffect, useRef, useState } from "react";

import type { Video } from "./api";
import { duration, seconds, words } from "./format";
import { HostNotAllowed, Poster, PreviewOff, RemoteVideo, StoredVideo } from "./Preview";

let playing: HTMLVideoElement | null = null;

/** Pause the video that plays, if it is another one. */
function playsAlone(video: HTMLVideoElement) {
  if (playing !== video) {
    playing?.pause();
  }
  playing = video;
}

function play(video: HTMLVideoElement) {
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
    return <FilePlayer href={video.file_href} poster={video.poster_href} name={video.name ?? video.prompt ?? "the video"} onOpen={onOpen} />;
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

interface FileProps {
  href: string;
  poster: string | null;
  name: string;
  onOpen: () => void;
}

/** A stored file: its poster, until it is played by pointing at it or by its button. Nothing else of it is loaded before. */
function FilePlayer({ href, poster, name, onOpen }: FileProps) {
  const element = useRef<HTMLVideoElement>(null);
  const [isWanted, setWanted] = useState(false);
  const [isPlaying, setPlaying] = useState(false);
  const toggle = () => {
    if (element.current === null) {
      setWanted(true);
    } else if (isPlaying) {
      element.current.pause();
    } else {
      play(element.current);
    }
  };
  const button = (
    <button type="button" className="play" aria-label={`${isPlaying ? "Pause" : "Play"} ${name}`} onClick={toggle}>
      <span aria-hidden="true">{isPlaying ? "❚❚" : "▶"}</span>
    </button>
  );
  if (!isWanted) {
    return (
      <>
        <Poster href={poster} onMouseEnter={() => setWanted(true)} onClick={onOpen} />
        {button}
      </>
    );
  }
  return (
    <StoredVideo
      href={href}
      element={element}
      poster={poster ?? undefined}
      tabIndex={-1}
      autoPlay
      onMouseEnter={(event) => play(event.currentTarget)}
      onMouseLeave={(event) => event.currentTarget.pause()}
      onPlay={(event) => {
        playsAlone(event.currentTarget);
        setPlaying(true);
      }}
      onPause={() => setPlaying(false)}
      onClick={onOpen}
    >
      {button}
    </StoredVideo>
  );
}
