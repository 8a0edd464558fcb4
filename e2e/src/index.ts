export { nodePrograms, requireBuilt } from "./programs.ts";
