import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Names without digests: what is built is in the repository, and CI compares it with what its source builds.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    license: { fileName: "licenses.md" },
    rollupOptions: {
      output: { entryFileNames: "assets/index.js", chunkFileNames: "assets/[name].js", assetFileNames: "assets/index[extname]" },
    },
  },
  test: { environment: "jsdom", globals: true },
});
