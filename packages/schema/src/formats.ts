/**
 * String and number formats that the API server checks. An unknown format is ignored, as upstream does.
 * Date and time: RFC 3339; uuid: RFC 4122; byte: standard base64; cidr, ipv4, ipv6: text forms of RFC 4291/4632.
 */
import { tryParseAddress, tryParsePrefix } from "@calico-ts/net";
import { parseDuration } from "./duration.ts";
import { parseQuantity } from "./quantity.ts";

const HOSTNAME = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$/;
const DATE_TIME = /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;

const stringFormats: { readonly [format: string]: (text: string) => boolean } = {
  "date-time": isDateTime,
  datetime: isDateTime,
  date: (text) => /^\d{4}-\d{2}-\d{2}$/.test(text) && isDateTime(`${text}T00:00:00Z`),
  byte: (text) => /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text),
  ipv4: (text) => tryParseAddress(text)?.family === 4,
  ipv6: (text) => tryParseAddress(text)?.family === 6,
  ip: (text) => tryParseAddress(text) !== undefined,
  cidr: (text) => text.includes("/") && tryParsePrefix(text, "mask") !== undefined,
  mac: (text) =>
    /^([0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(\2[0-9A-Fa-f]{2}){4,6}|([0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4})$/.test(text),
  email: (text) => /^[^\s@<>]+@[^\s@<>]+$/.test(text),
  hostname: (text) => text.length <= 255 && HOSTNAME.test(text),
  uri: (text) => /^[A-Za-z][A-Za-z0-9+.-]*:\S+$/.test(text) || text.startsWith("/"),
  uuid: (text) => /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i.test(text),
  uuid3: (text) => /^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i.test(text),
  uuid4: (text) => /^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$/i.test(text),
  uuid5: (text) => /^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$/i.test(text),
  hexcolor: (text) => /^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$/.test(text),
  duration: (text) => parseDuration(text) !== undefined,
  quantity: (text) => parseQuantity(text) !== undefined,
};

export function matchesStringFormat(format: string, text: string): boolean {
  const check = Object.hasOwn(stringFormats, format) ? stringFormats[format] : undefined;
  return check === undefined || check(text);
}

/** int32 and int64 bound integers; double and float take any number. */
export function matchesNumberFormat(format: string, value: number): boolean {
  if (format === "int32") return value >= -2_147_483_648 && value <= 2_147_483_647;
  if (format === "int64") return value >= -(2 ** 63) && value <= 2 ** 63;
  if (format === "float") return Math.abs(value) <= 3.402_823_466_385_288_6e38;
  return true;
}

export function isDateTime(text: string): boolean {
  const match = DATE_TIME.exec(text);
  if (match === null) return false;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const days = new Date(Date.UTC(year, month, 0)).getUTCDate();
  return month >= 1 && month <= 12 && day >= 1 && day <= days && hour < 24 && minute < 60 && second < 61;
}
