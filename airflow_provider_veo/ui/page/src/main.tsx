import "./style.css";

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { RETRIES } from "./api";
import { App } from "./App";
import { adopt } from "./host";
import { follow } from "./theme";

adopt();
follow();

const client = new QueryClient({ defaultOptions: { queries: { ...RETRIES, staleTime: 1_000 } } });

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);
