/** Does the name of an interface match? `*` stands for any characters, or none. A name that is not known, "", matches nothing. */
export function matchesName(pattern: string, name: string): boolean {
  if (name === "") return false;
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return name === pattern;
  if (!name.startsWith(first)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return name.length - last.length >= at && name.endsWith(last);
}
