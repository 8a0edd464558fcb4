/**
 * The server's own certificate authority: ECDSA P-256 certificates for the server and for clients.
 * A client's common name is its user, its organisations are its groups (Kubernetes documentation, "Authenticating").
 */
// oxlint-disable-next-line import/no-unassigned-import -- the certificate library wants this polyfill loaded before itself
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
  type X509Certificate,
} from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY = 86_400_000;

export interface KeyPair {
  /** PEM. */
  readonly certificate: string;
  /** PEM, PKCS#8. */
  readonly key: string;
}

export interface Identity {
  readonly user: string;
  readonly groups: readonly string[];
}

export interface CertificateAuthority {
  /** PEM of the authority's certificate. */
  readonly certificate: string;
  issueServer(names: readonly string[], addresses: readonly string[]): Promise<KeyPair>;
  issueClient(identity: Identity): Promise<KeyPair>;
}

export async function createAuthority(now: () => number): Promise<CertificateAuthority> {
  // The library and Node agree on WebCrypto at run time; their types differ in which CryptoKey they name.
  const crypto = webcrypto as unknown as Parameters<typeof cryptoProvider.set>[0];
  cryptoProvider.set(crypto);
  const newKeys = (): Promise<webcrypto.CryptoKeyPair> =>
    webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  let serial = 1;
  const nextSerial = (): string => (0x1000 + serial++).toString(16);
  const validity = (): { notBefore: Date; notAfter: Date } => ({
    notBefore: new Date(now() - DAY),
    notAfter: new Date(now() + 3650 * DAY),
  });

  const keys = await newKeys();
  const authority = await X509CertificateGenerator.createSelfSigned({
    serialNumber: nextSerial(),
    name: "CN=kubernetes",
    ...validity(),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign | KeyUsageFlags.digitalSignature, true),
    ],
  });

  const issue = async (subject: Subject, extensions: Extensions): Promise<KeyPair> => {
    const own = await newKeys();
    const certificate = await X509CertificateGenerator.create({
      serialNumber: nextSerial(),
      subject,
      issuer: authority.subject,
      ...validity(),
      signingAlgorithm: ALGORITHM,
      publicKey: own.publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment, true),
        ...extensions,
      ],
    });
    return { certificate: pem(certificate), key: await privatePem(own.privateKey) };
  };

  return {
    certificate: pem(authority),
    issueServer: (names, addresses) =>
      issue(
        [{ CN: ["kube-apiserver"] }],
        [
          new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
          new SubjectAlternativeNameExtension([
            ...names.map((value) => ({ type: "dns" as const, value })),
            ...addresses.map((value) => ({ type: "ip" as const, value })),
          ]),
        ],
      ),
    issueClient: (identity) =>
      issue(
        [...identity.groups.map((group) => ({ O: [group] })), { CN: [identity.user] }],
        [new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth])],
      ),
  };
}

type Subject = { [type: string]: string[] }[];
type Extensions = (ExtendedKeyUsageExtension | SubjectAlternativeNameExtension)[];

const pem = (certificate: X509Certificate): string => `${certificate.toString("pem")}\n`;

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  const bytes = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key)).toString("base64");
  return `-----BEGIN PRIVATE KEY-----\n${bytes.replaceAll(/.{64}/g, "$&\n").trimEnd()}\n-----END PRIVATE KEY-----\n`;
}
