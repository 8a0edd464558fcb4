/** Netlink headers and most rtnetlink attributes are in the byte order of the host. */
export const LITTLE_ENDIAN_HOST: boolean = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;
