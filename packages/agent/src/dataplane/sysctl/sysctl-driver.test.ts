import { silentLogger } from "@calico-ts/runtime";
import { expect, test } from "vitest";
import { SysctlDriver } from "./sysctl-driver.ts";

const KEY = "net/ipv4/conf/cali1/proxy_arp";

function setUp(): { kernel: Map<string, string>; reads: string[]; driver: SysctlDriver } {
  const kernel = new Map([[KEY, "0"]]);
  const reads: string[] = [];
  const driver = new SysctlDriver({
    kernel: {
      getSysctl: (key) => {
        reads.push(key);
        return kernel.get(key);
      },
      setSysctl: (key, value) => void kernel.set(key, value),
    },
    log: silentLogger,
  });
  return { kernel, reads, driver };
}

test("what is wanted again as it was is not read again", () => {
  const { kernel, reads, driver } = setUp();
  driver.want("cali1", { [KEY]: "1" });
  driver.apply();
  expect(kernel.get(KEY)).toBe("1");
  reads.length = 0;
  driver.want("cali1", { [KEY]: "1" });
  driver.apply();
  expect(reads).toEqual([]);
});

test("other values, a new interface of that name and a refresh are", () => {
  const { kernel, driver } = setUp();
  driver.want("cali1", { [KEY]: "1" });
  driver.apply();
  driver.want("cali1", { [KEY]: "2" });
  driver.apply();
  expect(kernel.get(KEY)).toBe("2");
  for (const notice of [() => driver.touched("cali1"), () => driver.markForResync()]) {
    kernel.set(KEY, "0");
    notice();
    driver.apply();
    expect(kernel.get(KEY)).toBe("2");
  }
});

test("what was wanted, then not, then again is set", () => {
  const { kernel, driver } = setUp();
  driver.want("cali1", { [KEY]: "1" });
  driver.apply();
  driver.want("cali1", undefined);
  kernel.set(KEY, "0");
  driver.want("cali1", { [KEY]: "1" });
  driver.apply();
  expect(kernel.get(KEY)).toBe("1");
});
