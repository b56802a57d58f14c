import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";

import { asked, changed, type Filter, FILTERS, useAddress } from "./address";
import { ask, type Batch, type Batches, type Broken, type Choices, interval, type Pages, pathOf, type Video, type Videos } from "./api";
import { BatchCard } from "./Batches";
import { BrokenCard, Card, Details } from "./Card";
import { Failure } from "./Failure";
import { Filters } from "./Filters";
import { Inner } from "./Links";
import { PreviewOff } from "./Preview";
import { OF_SPEND, SpendView } from "./Spend";

const OF_BATCHES: readonly Filter[] = ["dag_id", "run_id", "from", "to"];
const OF_A_BATCH: readonly Filter[] = ["state", "model", "text"];

/** Ask the server, and again as long as there may be news. */
function useAnswer<T>(path: string, shown: (answer: T) => (Video | Batch | Broken)[]) {
  return useQuery({
    queryKey: [path],
    queryFn: ({ signal }) => ask<T>(path, signal),
    refetchInterval: (query) => interval(query.state.data && shown(query.state.data)),
    placeholderData: keepPreviousData,
  });
}

function Paging({ query, pages }: { query: URLSearchParams; pages: Pages }) {
  return (
    <nav aria-label="Pages" className="paging">
      {pages.newer !== null && <Inner search={changed(query, { cursor: pages.newer })}>Newer</Inner>}
      {pages.older !== null && <Inner search={changed(query, { cursor: pages.older })}>Older</Inner>}
    </nav>
  );
}

interface ListProps<T extends Pages> {
  query: URLSearchParams;
  path: string;
  shown: (answer: T) => (Video | Batch | Broken)[];
  empty: string;
  name: string;
  children: (answer: T) => ReactNode;
}

/** A page of a list, or why there is none. */
function List<T extends Pages>({ query, path, shown, empty, name, children }: ListProps<T>) {
  const answer = useAnswer<T>(path, shown);
  const failure = answer.error && <Failure error={answer.error} onRetry={() => void answer.refetch()} />;
  if (failure && (!answer.data || answer.isPlaceholderData)) {
    return failure;
  }
  if (!answer.data) {
    return <ul className="cards skeleton" aria-busy="true" aria-label="Loading" />;
  }
  const count = shown(answer.data).length;
  const isFiltered = FILTERS.some((each) => query.get(each));
  const none = isFiltered ? `No ${name} match these filters.` : empty;
  return (
    <>
      {failure}
      <p className="count" aria-live="polite">
        {answer.data.preview === "off" ? <PreviewOff /> : count ? `${count} ${count === 1 ? SINGULAR[name] : name} on this page` : none}
      </p>
      {children(answer.data)}
      <Paging query={query} pages={answer.data} />
    </>
  );
}

const SINGULAR: Record<string, string> = { videos: "video", batches: "batch" };
const NO_VIDEOS = "No videos yet. They appear here when a task with VeoCreateVideoOperator has submitted one.";
const NO_BATCHES = "No batches yet. They appear here when a task with VeoVideoBatchOperator has begun.";

const videosOf = (answer: Videos) => answer.videos;
const batchesOf = (answer: Batches) => answer.batches;

function BatchList({ batches }: { batches: (Batch | Broken)[] }) {
  return (
    <ul className="batches">
      {batches.map((batch) => (
        <BatchCard key={`${pathOf(batch)}/${batch.region_id ?? ""}`} batch={batch} />
      ))}
    </ul>
  );
}

/** Cards, and the details of one: they stay when newer videos move its card to another page. */
function Cards({ videos }: { videos: (Video | Broken)[] }) {
  const [opened, setOpened] = useState<Video | null>(null);
  const shown = videos.find((video): video is Video => !video.broken && video.key === opened?.key) ?? opened;
  return (
    <>
      <ul className="cards">
        {videos.map((video) =>
          video.broken ? (
            <BrokenCard key={video.key ?? pathOf(video)} record={video} />
          ) : (
            <Card key={video.key} video={video} onOpen={() => setOpened(video)} />
          ),
        )}
      </ul>
      {shown && <Details key={shown.key} video={shown} onClose={() => setOpened(null)} />}
    </>
  );
}

/** The batches that there was news of last: their videos are below them. */
function LatestBatches({ query }: { query: URLSearchParams }) {
  const answer = useAnswer<Batches>(`batches?limit=3&${asked(query, OF_BATCHES)}`, batchesOf);
  return answer.data?.batches.length ? <BatchList batches={answer.data.batches} /> : null;
}

function VideosView({ query }: { query: URLSearchParams }) {
  const isOfVideos = [...OF_A_BATCH, "cursor"].some((each) => query.get(each));
  return (
    <>
      {!isOfVideos && <LatestBatches query={query} />}
      <List<Videos> query={query} path={`videos?${asked(query)}`} shown={videosOf} empty={NO_VIDEOS} name="videos">
        {(answer) => <Cards videos={answer.videos} />}
      </List>
    </>
  );
}

function BatchesView({ query }: { query: URLSearchParams }) {
  const path = `batches?${asked(query, OF_BATCHES)}`;
  return (
    <List<Batches> query={query} path={path} shown={batchesOf} empty={NO_BATCHES} name="batches">
      {(answer) => <BatchList batches={answer.batches} />}
    </List>
  );
}

function BatchView({ query, place }: { query: URLSearchParams; place: string }) {
  const region = query.get("region");
  const path = region ? `batches/${place}?${new URLSearchParams({ region }).toString()}` : `batches/${place}`;
  const batch = useAnswer<Batch | Broken>(path, (answer) => [answer]);
  return (
    <>
      {batch.data && (
        <ul className="batches">
          <BatchCard batch={batch.data} isOpened />
        </ul>
      )}
      <List<Videos>
        query={query}
        path={`batches/${place}/videos?${asked(query, [...OF_A_BATCH, "region"])}`}
        shown={videosOf}
        empty="This batch has no videos."
        name="videos"
      >
        {(answer) => <Cards videos={answer.videos} />}
      </List>
    </>
  );
}

/** Return the place of a batch as the address tells it; `null` where it is none. */
function placeOf(told: string | null): string | null {
  const parts = told?.split("/") ?? [];
  return parts.length === 4 && parts.every((part) => part !== "" && part !== "." && part !== "..") ? told : null;
}

const VIEWS = ["batches", "spend"] as const;
const HEADINGS = { batch: "Videos of a batch", batches: "Batches", spend: "Spend", videos: "Videos" };

/** The page. */
export function App() {
  const query = useAddress();
  const place = placeOf(query.get("batch"));
  const view = place ? "batch" : (VIEWS.find((each) => each === query.get("view")) ?? "videos");
  const choices = useQuery({ queryKey: ["filters"], queryFn: ({ signal }) => ask<Choices>("filters", signal) });
  const names = { batch: OF_A_BATCH, batches: OF_BATCHES, spend: OF_SPEND, videos: FILTERS }[view];
  return (
    <>
      <header>
        <h1>Veo videos</h1>
        <nav aria-label="Views">
          <Inner search="" aria-current={view === "videos" ? "page" : undefined}>
            Videos
          </Inner>
          <Inner search="view=batches" aria-current={view.startsWith("batch") ? "page" : undefined}>
            Batches
          </Inner>
          <Inner search="view=spend" aria-current={view === "spend" ? "page" : undefined}>
            Spend
          </Inner>
        </nav>
      </header>
      <main>
        <Filters query={query} choices={choices.data} names={names} />
        <h2 className="hidden">{HEADINGS[view]}</h2>
        {view === "videos" && <VideosView query={query} />}
        {view === "batches" && <BatchesView query={query} />}
        {view === "spend" && <SpendView query={query} />}
        {place && <BatchView query={query} place={place} />}
      </main>
    </>
  );
}
