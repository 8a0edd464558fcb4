/**
 * UTF-8 by hand: pure packages have no TextEncoder. Kernel names are nearly always ASCII, which takes the fast path.
 * Broken input decodes to U+FFFD, never throws.
 */
export function utf8Length(text: string): number {
  let length = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit < 0x80) length += 1;
    else if (unit < 0x800) length += 2;
    else if (isPair(text, at)) {
      length += 4;
      at++;
    } else length += 3;
  }
  return length;
}

const isPair = (text: string, at: number): boolean => {
  const high = text.charCodeAt(at);
  const low = text.charCodeAt(at + 1);
  return high >= 0xd800 && high < 0xdc00 && low >= 0xdc00 && low < 0xe000;
};

/** Writes the bytes at `at`, where the caller made room, and returns the place after them. */
export function writeUtf8(target: Uint8Array, start: number, text: string): number {
  let at = start;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) {
      target[at++] = unit;
      continue;
    }
    // A lone surrogate has no UTF-8 form: it becomes the replacement character.
    const code = text.codePointAt(index) ?? 0xfffd;
    const point = code >= 0xd800 && code < 0xe000 ? 0xfffd : code;
    if (point < 0x800) {
      target[at++] = 0xc0 | (point >> 6);
    } else {
      if (point < 0x1_0000) {
        target[at++] = 0xe0 | (point >> 12);
      } else {
        target[at++] = 0xf0 | (point >> 18);
        target[at++] = 0x80 | ((point >> 12) & 63);
        index++;
      }
      target[at++] = 0x80 | ((point >> 6) & 63);
    }
    target[at++] = 0x80 | (point & 63);
  }
  return at;
}

export function utf8Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(utf8Length(text));
  writeUtf8(bytes, 0, text);
  return bytes;
}

/** Text up to the first NUL or the end. */
export function textFrom(bytes: Uint8Array): string {
  let out = "";
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at] ?? 0;
    if (first === 0) break;
    if (first < 0x80) {
      out += String.fromCharCode(first);
      at++;
      continue;
    }
    const { point, used } = multiByte(bytes, at);
    out += String.fromCodePoint(point);
    at += used;
  }
  return out;
}

const BROKEN = { point: 0xfffd, used: 1 };
const SMALLEST = [0, 0, 0x80, 0x800, 0x1_0000];

function multiByte(bytes: Uint8Array, at: number): { readonly point: number; readonly used: number } {
  const first = bytes[at] ?? 0;
  const used = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return BROKEN;
  let point = first & (0x7f >> used);
  for (let next = 1; next < used; next++) {
    const byte = bytes[at + next] ?? 0;
    if ((byte & 0xc0) !== 0x80) return BROKEN;
    point = (point << 6) | (byte & 63);
  }
  const wrong = point < (SMALLEST[used] ?? 0) || point > 0x10_ffff || (point >= 0xd800 && point < 0xe000);
  return wrong ? BROKEN : { point, used };
}
