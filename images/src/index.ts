export { type Archive, type ImageSpec, type Layer, writeImageArchive, writeLayer } from "./archive.ts";
export { type BaseOptions, debianBase } from "./base.ts";
export { type BuildOptions, type BuiltImage, buildImages, layOutAll, machineSuite } from "./build.ts";
export { type Layout, layOut, type NpmProcessor } from "./layout.ts";
export { IMAGE_NAMES, type ImageName, PROGRAM_FOLDER, type Program, type Recipe, RECIPES, VERSION } from "./recipes.ts";
export { folderEntries, type TarEntry, type WrittenFile, writeTar } from "./tar.ts";
