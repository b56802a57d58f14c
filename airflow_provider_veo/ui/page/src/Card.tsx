import { useRef } from "react";

import type { Broken, Place, Video } from "./api";
import { cost, duration, moment, seconds, size, words } from "./format";
import { Outer, runPath, taskName, taskPath, ToAirflow } from "./Links";
import { Player } from "./Player";
import { RemoteVideo, StoredVideo } from "./Preview";

/** A state as a word and a dot. */
export function Badge({ state }: { state: string }) {
  return (
    <span className={`badge ${state}`}>
      <span className="dot" aria-hidden="true" />
      {words(state)}
    </span>
  );
}

function Facts({ video }: { video: Video }) {
  const spent = seconds(video.submitted_at, video.finished_at);
  const facts = [
    video.model,
    spent === null ? null : duration(spent),
    video.cost === null ? null : cost(video.cost),
    video.attempts !== null && video.attempts > 1 ? `${video.attempts} attempts` : null,
  ].filter((fact) => fact !== null);
  return (
    <p className="facts">
      {facts.map((fact) => (
        <span key={fact}>{fact}</span>
      ))}
    </p>
  );
}

/** Links to the run and the task that left a record. */
function Owner({ of }: { of: Place }) {
  return (
    <>
      <ToAirflow path={runPath(of)}>{of.dag_id}</ToAirflow>
      <ToAirflow path={taskPath(of)}>{taskName(of)}</ToAirflow>
    </>
  );
}

/** What a person may want to open of a video. */
function Ways({ video }: { video: Video }) {
  return (
    <p className="ways">
      <Owner of={video} />
      {video.file_href && <Outer href={video.file_href}>file</Outer>}
      {video.video_url && <Outer href={video.video_url}>at the relay</Outer>}
    </p>
  );
}

function Row({ name, children }: { name: string; children: React.ReactNode }) {
  return children === null || children === "" ? null : (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}

/** All that is known of a video. */
export function Details({ video, onClose }: { video: Video; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement | null>(null);
  const open = (element: HTMLDialogElement | null) => {
    dialog.current = element;
    if (element && !element.open) {
      element.showModal();
    }
  };
  return (
    <dialog ref={open} onClose={onClose} aria-label={video.name ?? video.prompt ?? "Video"}>
      <button type="button" className="close" onClick={() => dialog.current?.close()} aria-label="Close">
        ✕
      </button>
      {video.file_href !== null && <StoredVideo href={video.file_href} className="full" controls autoPlay />}
      {video.file_href === null && video.remote_src !== null && <RemoteVideo src={video.remote_src} className="full" />}
      <dl>
        <Row name="Prompt">{video.prompt}</Row>
        <Row name="Reworded prompt">{video.reworded_prompt}</Row>
        <Row name="Enhanced prompt">{video.enhanced_prompt}</Row>
        <Row name="State">{words(video.state)}</Row>
        <Row name="Reason">{video.error && <span className="error">{video.error}</span>}</Row>
        <Row name="Relay's status">{video.status}</Row>
        <Row name="Task">{video.task_state}</Row>
        <Row name="Model">{video.model}</Row>
        <Row name="Job">{video.name}</Row>
        <Row name="Id">{video.id}</Row>
        <Row name="Submitted">{moment(video.submitted_at)}</Row>
        <Row name="Finished">{moment(video.finished_at)}</Row>
        <Row name="Picture">{video.width && video.height ? `${video.width} × ${video.height}` : video.aspect_ratio}</Row>
        <Row name="Plays">{video.duration_seconds === null ? null : `${video.duration_seconds} s`}</Row>
        <Row name="File">{video.file && `${video.file}${video.bytes ? ` (${size(video.bytes)})` : ""}`}</Row>
        <Row name="Cost">{video.cost === null ? null : String(video.cost)}</Row>
        <Row name="Run">{video.run_id}</Row>
      </dl>
      <Ways video={video} />
    </dialog>
  );
}

/** What is shown in place of a record that can't be shown. */
export function BrokenCard({ record }: { record: Broken }) {
  return (
    <li className="card broken">
      <div className="about">
        <p className="error">{record.error}</p>
        <p className="ways">
          <Owner of={record} />
        </p>
      </div>
    </li>
  );
}

/** A video, with what a person wants to know of it. */
export function Card({ video, onOpen }: { video: Video; onOpen: () => void }) {
  const prompt = video.prompt ?? video.name ?? video.id ?? "";
  return (
    <li className="card">
      <Player video={video} onOpen={onOpen} />
      <div className="about">
        <p className="head">
          <Badge state={video.state} />
          <time dateTime={video.finished_at ?? video.submitted_at ?? undefined}>
            {moment(video.finished_at ?? video.submitted_at)}
          </time>
        </p>
        <h3 className="prompt" title={prompt}>
          {prompt}
        </h3>
        {video.error && <p className="error">{video.error.split("\n")[0]}</p>}
        {video.enhanced_prompt && (
          <details>
            <summary>Enhanced prompt</summary>
            <p>{video.enhanced_prompt}</p>
          </details>
        )}
        <Facts video={video} />
        <Ways video={video} />
        <button type="button" className="more" onClick={onOpen} aria-label={`Details of ${prompt}`}>
          Details
        </button>
      </div>
    </li>
  );
}
