import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { type Batch, type Broken, RETRIES, type Video } from "./api";
import { App } from "./App";

const OWNER = { dag_id: "nightly", run_id: "scheduled__1", task_id: "make", map_index: -1 };
const VIDEO: Video = {
  ...OWNER,
  key: "1/make/-1",
  id: "veo3-fast:1",
  state: "succeeded",
  status: "completed",
  task_state: "success",
  name: null,
  prompt: "A red kite",
  reworded_prompt: null,
  enhanced_prompt: "A red kite, cinematic",
  model: "veo3-fast",
  aspect_ratio: "9:16",
  error: null,
  cost: 0.4,
  attempts: null,
  submitted_at: "2026-11-22T02:00:00Z",
  finished_at: "2026-11-22T02:01:30Z",
  file: "s3://bucket/kite.mp4",
  file_href: "api/files/a/b/make/-1",
  poster_href: "api/posters/a/b/make/-1",
  remote_src: null,
  video_url: "https://relay.example.com/kite.mp4",
  preview: "file",
  bytes: 3_400_000,
  width: 720,
  height: 1280,
  duration_seconds: 8,
};
const NOT_STORED = { file: null, file_href: null, poster_href: null } as const;
const BATCH: Batch = {
  dag_id: "nightly",
  run_id: "a+1",
  task_id: "make",
  map_index: -1,
  task_state: "deferred",
  total: 10,
  done: 4,
  failed: 1,
  generating: 3,
  to_submit: 2,
  counts: null,
  per_minute: 12.5,
  seconds_left: 150,
  cost: 2,
  since: null,
  updated_at: null,
  awaits_approval: false,
  preview: null,
};
const BROKEN: Broken = { ...OWNER, key: "9", broken: true, error: "This record can't be shown." };

let asked: string[] = [];
let answers: Record<string, unknown> = {};

/** The server: what it answers by the beginning of what it is asked. */
function serve(given: Record<string, unknown>) {
  answers = { "api/filters": { dag_ids: ["nightly"], models: ["veo3-fast"], states: ["failed", "timed_out"] }, ...given };
}

beforeEach(() => {
  asked = [];
  window.history.replaceState(null, "", "/veo/");
  vi.stubGlobal("fetch", async (path: string) => {
    asked.push(path);
    const found = Object.entries(answers).find(([begin]) => path.startsWith(begin));
    const [status, content] = found ? [200, found[1]] : [404, { detail: "There is no such thing." }];
    const refused = content as { status?: number; headers?: Record<string, string> };
    return new Response(JSON.stringify(content), {
      status: typeof refused.status === "number" ? refused.status : status,
      headers: { "Content-Type": "application/json", ...refused.headers },
    });
  });
  vi.spyOn(HTMLMediaElement.prototype, "play").mockResolvedValue();
  vi.spyOn(HTMLMediaElement.prototype, "pause").mockReturnValue();
  HTMLDialogElement.prototype.showModal = function (this: HTMLDialogElement) {
    this.open = true;
  };
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const show = () =>
  render(
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
      <App />
    </QueryClientProvider>,
  );
const page = (videos: Video[], more = {}) => ({ videos, older: null, newer: null, ...more });

test("a card says what became of a video, and leads on", async () => {
  serve({ "api/videos": page([VIDEO]) });
  show();
  const card = (await screen.findByRole("heading", { name: "A red kite" })).closest("li") as HTMLElement;
  for (const text of ["succeeded", "veo3-fast", "1 min 30 s", "cost 0.4"]) {
    expect(within(card).getByText(text)).toBeTruthy();
  }
  const links = within(card).getAllByRole("link").map((link) => (link as HTMLAnchorElement).href);
  expect(links).toEqual([
    `${window.location.origin}/dags/nightly/runs/scheduled__1`,
    `${window.location.origin}/dags/nightly/runs/scheduled__1/tasks/make`,
    `${window.location.origin}/veo/api/files/a/b/make/-1`,
    "https://relay.example.com/kite.mp4",
  ]);
  expect(card.querySelector(".media.tall img")?.getAttribute("src")).toBe("api/posters/a/b/make/-1");
});

const IN_A_LOOP = { map_index: 1, region_id: "01a2-7e", iteration: 1, is_mapped: false } as const;

test("a card of a task loop names the iteration, and leads to it", async () => {
  const mapped = { ...VIDEO, ...IN_A_LOOP, key: "2", map_index: 0, is_mapped: true, prompt: "A mapped kite" };
  serve({ "api/videos": page([{ ...VIDEO, ...IN_A_LOOP }, mapped]) });
  show();
  const first = await screen.findByRole("link", { name: "make, iteration 1" });
  const second = screen.getByRole("link", { name: "make [0], iteration 1" });
  const run = `${window.location.origin}/dags/nightly/runs/scheduled__1/tasks/make`;
  expect((first as HTMLAnchorElement).href).toBe(`${run}?region_id=01a2-7e&region_index=1`);
  expect((second as HTMLAnchorElement).href).toBe(`${run}/mapped/0?region_id=01a2-7e&region_index=0`);
});

test("a batch in a task loop opens into the videos of its iteration", async () => {
  const batch = { ...BATCH, ...IN_A_LOOP };
  serve({
    "api/videos": page([]),
    "api/batches?": { batches: [batch], older: null, newer: null },
    "api/batches/nightly/a%2B1/make/1/videos?region=01a2-7e": page([VIDEO]),
    "api/batches/nightly/a%2B1/make/1?region=01a2-7e": batch,
  });
  show();
  fireEvent.click(await screen.findByRole("link", { name: "10 videos" }));
  expect(await screen.findByRole("heading", { name: "A red kite" })).toBeTruthy();
  expect(window.location.search).toBe("?batch=nightly%2Fa%252B1%2Fmake%2F1&region=01a2-7e");
});

test("prompts and errors are text, whatever they hold", async () => {
  const markup = "<img src=x onerror=alert(1)><script>alert(2)</script>";
  serve({ "api/videos": page([{ ...VIDEO, prompt: markup, error: `${markup}\nmore`, ...NOT_STORED, state: "failed" }]) });
  const { container } = show();
  expect(await screen.findByRole("heading", { name: markup })).toBeTruthy();
  expect(container.querySelector("script, img")).toBeNull();
  expect(screen.getByText(markup, { selector: ".error" })).toBeTruthy();
});

test("a video that is being generated says so", async () => {
  const submitted_at = new Date(Date.now() - 65_000).toISOString();
  serve({ "api/videos": page([{ ...VIDEO, state: "generating", status: "video_generating", ...NOT_STORED, submitted_at }]) });
  show();
  expect(await screen.findByText("video generating")).toBeTruthy();
  expect(screen.getByText(/^1 min [5-9] s$/)).toBeTruthy();
});

test("one video plays at a time, by its button", async () => {
  serve({ "api/videos": page([VIDEO, { ...VIDEO, key: "2", prompt: "A lantern" }]) });
  show();
  await userEvent.click(await screen.findByRole("button", { name: "Play A red kite" }));
  fireEvent.play(document.querySelector("video") as HTMLElement);
  await userEvent.click(screen.getByRole("button", { name: "Play A lantern" }));
  expect(HTMLMediaElement.prototype.pause).not.toHaveBeenCalled();
  fireEvent.play(document.querySelectorAll("video")[1] as HTMLElement);
  expect(vi.mocked(HTMLMediaElement.prototype.pause).mock.contexts).toEqual([document.querySelector("video")]);
});

test("a video is loaded only when it is played", async () => {
  serve({ "api/videos": page([VIDEO, { ...VIDEO, key: "2", prompt: "A lantern", poster_href: null }]) });
  const { container } = show();
  await screen.findByRole("heading", { name: "A lantern" });
  expect(container.querySelector("video")).toBeNull();
  expect([...container.querySelectorAll("img")].map((img) => img.getAttribute("loading"))).toEqual(["lazy"]);
  await userEvent.hover(container.querySelector("img") as HTMLElement);
  expect(container.querySelector("img")).toBeNull();
  const video = container.querySelector("video") as HTMLVideoElement;
  expect([video.getAttribute("src"), video.autoplay]).toEqual(["api/files/a/b/make/-1", true]);
  expect(video.getAttribute("poster")).toBe("api/posters/a/b/make/-1");
  await userEvent.click(screen.getByRole("button", { name: "Play A lantern" }));
  expect(container.querySelectorAll("video")).toHaveLength(2);
});

test("details open by a click on the poster", async () => {
  serve({ "api/videos": page([VIDEO]) });
  const { container } = show();
  await screen.findByRole("heading", { name: "A red kite" });
  fireEvent.click(container.querySelector("img") as HTMLElement);
  expect(await screen.findByRole("dialog")).toBeTruthy();
});

test("details show everything, with the video's own controls", async () => {
  serve({ "api/videos": page([VIDEO]) });
  show();
  await userEvent.click(await screen.findByRole("button", { name: "Details of A red kite" }));
  const dialog = await screen.findByRole("dialog");
  for (const text of ["veo3-fast:1", "720 × 1280", "s3://bucket/kite.mp4 (3.4 MB)", "A red kite, cinematic"]) {
    expect(within(dialog).getByText(text)).toBeTruthy();
  }
  expect(dialog.querySelector("video[controls]")).toBeTruthy();
});

test("a blocked video has the relay's reason, and the prompt that was sent in its place", async () => {
  const blocked = { ...VIDEO, ...NOT_STORED, state: "blocked", error: "unsafe prompt", reworded_prompt: "A calm kite" };
  serve({ "api/videos": page([blocked]) });
  show();
  expect((await screen.findByText("blocked")).className).toBe("badge blocked");
  expect(screen.getByText("unsafe prompt")).toBeTruthy();
  await userEvent.click(screen.getByRole("button", { name: "Details of A red kite" }));
  const dialog = await screen.findByRole("dialog");
  expect(within(dialog).getByText("Reworded prompt").nextSibling?.textContent).toBe("A calm kite");
});

test("a batch that has ended counts blocked videos apart", async () => {
  const counts = { succeeded: 4, failed: 1, blocked: 5, refused: 0 };
  const ended = { ...BATCH, task_state: "success", failed: 6, generating: 0, to_submit: 0, counts };
  serve({ "api/batches": { batches: [ended], older: null, newer: null } });
  window.history.replaceState(null, "", "?view=batches");
  show();
  for (const text of ["4 of 10 done", "1 failed", "5 blocked"]) {
    expect(await screen.findByText(text)).toBeTruthy();
  }
  expect(screen.queryByText("0 refused")).toBeNull();
});

test("details stay when the card moves to another page", async () => {
  serve({ "api/videos": page([{ ...VIDEO, state: "generating" }]) });
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>,
  );
  await userEvent.click(await screen.findByRole("button", { name: "Details of A red kite" }));
  serve({ "api/videos": page([{ ...VIDEO, key: "2", prompt: "A lantern" }]) });
  await client.refetchQueries();
  expect(await screen.findByRole("heading", { name: "A lantern" })).toBeTruthy();
  expect(screen.queryByRole("heading", { name: "A red kite" })).toBeNull();
  expect(within(screen.getByRole("dialog")).getByText("veo3-fast:1")).toBeTruthy();
});

test("filters stand in the address, and begin at the first page", async () => {
  window.history.replaceState(null, "", "?cursor=abc");
  serve({ "api/videos": page([VIDEO]) });
  show();
  await screen.findByRole("option", { name: "timed out" });
  await userEvent.selectOptions(screen.getByLabelText("State"), "timed out");
  await userEvent.type(screen.getByLabelText("Prompt contains"), "kite");
  await waitFor(() => expect(asked.at(-1)).toBe("api/videos?state=timed_out&text=kite"));
  expect(window.location.search).toBe("?state=timed_out&text=kite");
  await userEvent.click(screen.getByRole("button", { name: "Clear filters" }));
  await waitFor(() => expect(window.location.search).toBe(""));
});

test("an address that was shared shows the same", async () => {
  window.history.replaceState(null, "", "?dag_id=nightly&state=failed&from=2026-11-22&cursor=abc");
  serve({ "api/videos": page([]) });
  show();
  expect(await screen.findByText("No videos match these filters.")).toBeTruthy();
  expect(asked).toContain("api/videos?dag_id=nightly&state=failed&from=2026-11-22&cursor=abc");
  expect((screen.getByLabelText("State") as HTMLSelectElement).value).toBe("failed");
});

test("the latest batches are above the videos, unless videos are looked for", async () => {
  serve({ "api/videos": page([VIDEO]), "api/batches": { batches: [BATCH], older: null, newer: null } });
  show();
  await screen.findByRole("progressbar");
  await userEvent.type(screen.getByLabelText("Prompt contains"), "kite");
  await waitFor(() => expect(screen.queryByRole("progressbar")).toBeNull());
});

test("a batch whose run waits for a person's answer links to Airflow's page of it", async () => {
  const waits = { ...BATCH, task_id: "other", awaits_approval: true };
  serve({ "api/videos": page([]), "api/batches": { batches: [BATCH, waits], older: null, newer: null } });
  show();
  const link = await screen.findByRole("link", { name: "waits for an approval" }); // of one of the two
  const run = `${window.location.origin}/dags/nightly/runs/a%2B1`;
  expect((link as HTMLAnchorElement).href).toBe(`${run}/required_actions?response_received=false`);
});

test("pages lead to their neighbours", async () => {
  serve({ "api/videos": page([VIDEO], { older: "next", newer: "before" }) });
  show();
  await userEvent.click(await screen.findByRole("link", { name: "Older" }));
  await waitFor(() => expect(asked.at(-1)).toBe("api/videos?cursor=next"));
  expect(screen.getByRole("link", { name: "Newer" }).getAttribute("href")).toBe("?cursor=before");
});

test("a batch shows how far it is, and opens into its videos", async () => {
  serve({
    "api/batches/nightly/a%2B1/make/-1/videos": page([VIDEO]),
    "api/batches/nightly/a%2B1/make/-1": BATCH,
    "api/batches": { batches: [BATCH], older: null, newer: null },
  });
  window.history.replaceState(null, "", "?view=batches");
  show();
  const bar = await screen.findByRole("progressbar");
  expect([bar.getAttribute("aria-valuenow"), bar.getAttribute("aria-valuemax")]).toEqual(["5", "10"]);
  for (const text of ["4 of 10 done", "2 to submit", "12.5/min", "about 2 min 30 s left", "cost 2"]) {
    expect(screen.getByText(text)).toBeTruthy();
  }
  await userEvent.click(screen.getByRole("link", { name: "10 videos" }));
  await waitFor(() => expect(asked).toContain("api/batches/nightly/a%2B1/make/-1/videos?"));
  expect(asked).toContain("api/batches/nightly/a%2B1/make/-1");
});

test.each(["../../secret/x/y", "a/b/c", "a/b/../d"])("%s is not a batch", async (place) => {
  window.history.replaceState(null, "", `?batch=${encodeURIComponent(place)}`);
  serve({ "api/videos": page([]) });
  show();
  await screen.findByText(/^No videos yet/);
  expect(asked.some((path) => path.startsWith("api/batches/"))).toBe(false);
});

test("an error is shown, and the request can be retried", async () => {
  serve({ "api/videos": { status: 502, detail: "The storage can't be read." } });
  show();
  expect((await screen.findByRole("alert")).textContent).toContain("The storage can't be read.");
  serve({ "api/videos": page([VIDEO]) });
  await userEvent.click(screen.getByRole("button", { name: "Retry" }));
  expect(await screen.findByRole("heading", { name: "A red kite" })).toBeTruthy();
});

test("a user who is not logged in sees a message", async () => {
  serve({ "api/videos": { status: 401, detail: "Not authenticated" } });
  show();
  expect((await screen.findByRole("alert")).textContent).toContain("Log in to Airflow again");
});

const BUSY = { status: 503, headers: { "Retry-After": "1" }, detail: "The storage is busy." };

/** A preview of the relay's copy. */
const REMOTE: Video = { ...VIDEO, ...NOT_STORED, preview: "remote", remote_src: "https://relay.example.com/kite.mp4" };

test("a remote video is loaded only after a click", async () => {
  serve({ "api/videos": page([REMOTE]) });
  const { container } = show();
  const button = await screen.findByRole("button", { name: "Play from the relay's host" });
  expect(screen.getByText("relay.example.com")).toBeTruthy();
  expect(container.querySelector("video")).toBeNull();
  await userEvent.click(button);
  expect(container.querySelector("video")?.getAttribute("src")).toBe("https://relay.example.com/kite.mp4");
});

test("a remote URL that changes after the click needs another click", async () => {
  serve({ "api/videos": page([REMOTE]) });
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const { container } = render(
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>,
  );
  await userEvent.click(await screen.findByRole("button", { name: "Play from the relay's host" }));
  serve({ "api/videos": page([{ ...REMOTE, remote_src: "https://relay.example.com/another.mp4" }]) });
  await client.refetchQueries();
  await screen.findByRole("button", { name: "Play from the relay's host" });
  expect(container.querySelector("video")).toBeNull();
});

test("details load nothing from another host", async () => {
  serve({ "api/videos": page([REMOTE]) });
  const { container } = show();
  await userEvent.click(await screen.findByRole("button", { name: "Details of A red kite" }));
  const dialog = await screen.findByRole("dialog");
  expect(within(dialog).getByRole("button", { name: "Play from the relay's host" })).toBeTruthy();
  expect(container.querySelector("video")).toBeNull();
});

test("a host that is not allowed gets a link only", async () => {
  serve({ "api/videos": page([{ ...VIDEO, ...NOT_STORED, preview: null }]) });
  const { container } = show();
  const why = await screen.findByRole("link", { name: "No preview: its host is not in [veo] page_media_hosts" });
  expect((why as HTMLAnchorElement).href).toBe(`${window.location.origin}/veo/help#page-media-hosts`);
  expect((screen.getByRole("link", { name: "at the relay" }) as HTMLAnchorElement).href).toBe(VIDEO.video_url);
  expect(container.querySelector("video")).toBeNull();
  expect(screen.queryByRole("button", { name: "Play from the relay's host" })).toBeNull();
});

test("a stored video outside page_roots leads to the explanation", async () => {
  serve({ "api/videos": page([{ ...VIDEO, file_href: null, preview: "off" }]) });
  const { container } = show();
  const why = await screen.findByRole("link", { name: "Preview is off: set [veo] page_roots" });
  expect((why as HTMLAnchorElement).href).toBe(`${window.location.origin}/veo/help#page-roots`);
  expect(container.querySelector("video")).toBeNull();
});

test("a batch outside page_roots says so instead of being empty", async () => {
  const batch = { ...BATCH, preview: "off" };
  serve({
    "api/batches/nightly/a%2B1/make/-1/videos": page([], { preview: "off" }),
    "api/batches/nightly/a%2B1/make/-1": batch,
    "api/batches": { batches: [batch], older: null, newer: null },
  });
  window.history.replaceState(null, "", "?view=batches");
  show();
  expect(await screen.findByRole("link", { name: "Preview is off: set [veo] page_roots" })).toBeTruthy();
  await userEvent.click(screen.getByRole("link", { name: "10 videos" }));
  await waitFor(() => expect(asked).toContain("api/batches/nightly/a%2B1/make/-1/videos?"));
  await waitFor(() => expect(screen.getAllByText("Preview is off: set [veo] page_roots")).toHaveLength(1));
  expect(screen.queryByText("This batch has no videos.")).toBeNull();
});

test("a broken record is an error card beside the others", async () => {
  serve({
    "api/videos": page([VIDEO, BROKEN as unknown as Video]),
    "api/batches": { batches: [BROKEN, BATCH], older: null, newer: null },
  });
  show();
  expect(await screen.findByRole("heading", { name: "A red kite" })).toBeTruthy();
  await screen.findByRole("progressbar");
  expect(screen.getAllByText("This record can't be shown.")).toHaveLength(2);
  const card = screen.getAllByText("This record can't be shown.")[1]?.closest("li") as HTMLElement;
  expect(within(card).getAllByRole("link").map((link) => link.textContent)).toEqual(["nightly", "make"]);
  expect(within(card).queryByRole("button")).toBeNull();
});

test("a busy server is retried without an error message", async () => {
  // Longer than the delay that a query has by default.
  serve({ "api/videos": { ...BUSY, headers: { "Retry-After": "3" } } });
  render(
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: RETRIES } })}>
      <App />
    </QueryClientProvider>,
  );
  await waitFor(() => expect(asked.some((path) => path.startsWith("api/videos"))).toBe(true));
  const before = asked.filter((path) => path.startsWith("api/videos")).length;
  await new Promise((resolve) => setTimeout(resolve, 2000));
  expect(asked.filter((path) => path.startsWith("api/videos"))).toHaveLength(before);
  expect(screen.queryByRole("alert")).toBeNull();
  serve({ "api/videos": page([VIDEO]) });
  expect(await screen.findByRole("heading", { name: "A red kite" }, { timeout: 10_000 })).toBeTruthy();
}, 20_000);

test("a poster that a busy server refused is loaded later", async () => {
  serve({ "api/videos": page([VIDEO]), "api/posters": BUSY });
  const { container } = show();
  await screen.findByRole("heading", { name: "A red kite" });
  fireEvent.error(container.querySelector("img") as HTMLElement);
  expect(container.querySelector("img")).toBeNull();
  await waitFor(() => expect(container.querySelector("img")).toBeTruthy(), { timeout: 4000 });
});

test("a poster that can't be loaded leaves its place, and the video plays", async () => {
  serve({ "api/videos": page([VIDEO]), "api/posters": { status: 404, detail: "There is nothing to show here." } });
  const { container } = show();
  await screen.findByRole("heading", { name: "A red kite" });
  fireEvent.error(container.querySelector("img") as HTMLElement);
  await waitFor(() => expect(asked).toContain("api/posters/a/b/make/-1"));
  expect(container.querySelector("img")).toBeNull();
  await userEvent.hover(container.querySelector(".poster") as HTMLElement);
  expect(container.querySelector("video")).toBeTruthy();
});

const played = async (container: HTMLElement) => {
  await userEvent.click(await screen.findByRole("button", { name: "Play A red kite" }));
  return container.querySelector("video") as HTMLElement;
};

test("a video that a busy server refused is loaded later", async () => {
  serve({ "api/videos": page([VIDEO]), "api/files": BUSY });
  const { container } = show();
  fireEvent.error(await played(container));
  expect(container.querySelector("video")).toBeNull();
  expect(screen.queryByText("The file could not be loaded.")).toBeNull();
  await waitFor(() => expect(container.querySelector("video")).toBeTruthy(), { timeout: 4000 });
});

test("a video that can't be loaded says so", async () => {
  serve({ "api/videos": page([VIDEO]), "api/files": { status: 404, detail: "There is nothing to show here." } });
  const { container } = show();
  fireEvent.error(await played(container));
  expect(await screen.findByText("The file could not be loaded.")).toBeTruthy();
});

test.each(["http://[", "http://exa mple/kite.mp4", "https://%zz/"])("the invalid URL %s is text, and the page stays", async (url) => {
  serve({ "api/videos": page([{ ...REMOTE, remote_src: url, video_url: url }]) });
  show();
  expect(await screen.findByText("at the relay", { selector: "span" })).toBeTruthy();
});
