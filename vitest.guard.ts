export default function setup(): void {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < 24) {
    throw new Error(
      `Node ${process.version}: run tests through npm (npm test), which puts the pinned Node first on PATH`,
    );
  }
}
