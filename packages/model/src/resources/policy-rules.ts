/** The rule of a v3 policy, the same in every kind that has rules. */
import {
  cel,
  checks,
  integer,
  intOrString,
  list,
  object,
  opt,
  set,
  stringMap,
  text,
  word,
} from "../schema/builders.ts";
import type { TypeOf } from "../schema/builders.ts";
import { empty, noGlobal } from "../schema/cel-terms.ts";
import { Type } from "typebox";

export const ACTIONS = ["Allow", "Deny", "Log", "Pass"] as const;

const selectorText = (description: string) => opt(text({ maxLength: 1024, description }));
const nets = (description: string) => opt(set(text(), { maxItems: 256, description }));
const portList = (description: string) => opt(list(intOrString(), { maxItems: 50, description }));

const GLOBAL = "global() can be used in the namespaceSelector of a rule only";

const entityRule = (side: string) =>
  opt(
    object(
      {
        nets: nets("Prefixes, any of which matches."),
        notNets: nets("Prefixes, none of which may match."),
        selector: selectorText("Endpoints and network sets by label. In a namespaced policy: of that namespace."),
        notSelector: selectorText("Negates the whole match of this selector, so that unknown addresses match too."),
        namespaceSelector: selectorText("Namespaces by label; global() for what is in none."),
        services: opt(
          object(
            {
              name: opt(text({ maxLength: 253 })),
              namespace: opt(text({ maxLength: 253, description: "Default: the policy's own." })),
            },
            { description: "The backends of one Kubernetes Service. Excludes every other way to select." },
          ),
        ),
        ports: portList("Numbers, ranges (`first:last`) or names, any of which matches."),
        notPorts: portList("Ports, none of which may match."),
        serviceAccounts: opt(
          object(
            {
              names: opt(set(text(), { description: "Any of these; empty means any account." })),
              selector: opt(text({ description: "Accounts by label." })),
            },
            { description: "Pods by service account. Both conditions hold." },
          ),
        ),
      },
      {
        description: `What the ${side} of the packet must be. All given fields must match.`,
        ...checks(
          cel(noGlobal("selector"), GLOBAL),
          cel(
            `!has(self.services) || ${empty("namespaceSelector")}`,
            "services and namespaceSelector exclude each other",
            "FieldValueForbidden",
          ),
          cel(
            "!(has(self.services) && has(self.serviceAccounts))",
            "services and serviceAccounts exclude each other",
            "FieldValueForbidden",
          ),
          cel(
            "!has(self.services) || (has(self.services.name) && size(self.services.name) > 0)",
            "services needs the name of a Service",
            "FieldValueRequired",
          ),
          cel(
            `!has(self.services) || (${empty("selector")} && ${empty("notSelector")})`,
            "services and selector or notSelector exclude each other",
            "FieldValueForbidden",
          ),
          cel(
            `!has(self.services) || (${empty("nets")} && ${empty("notNets")})`,
            "services and nets or notNets exclude each other",
            "FieldValueForbidden",
          ),
        ),
      },
    ),
  );

const icmp = (description: string) =>
  opt(
    object(
      {
        type: opt(integer({ minimum: 0, maximum: 254 })),
        code: opt(integer({ minimum: 0, maximum: 255 })),
      },
      { description, ...checks(cel("has(self.type) || !has(self.code)", "an ICMP code needs an ICMP type")) },
    ),
  );

const http = object(
  {
    methods: opt(list(text(), { maxItems: 20, description: "Any of these methods; empty: any." })),
    paths: opt(
      list(object({ exact: opt(text({ maxLength: 1024 })), prefix: opt(text({ maxLength: 1024 })) }), {
        maxItems: 20,
        description: "Any of these paths, each by exact or by prefix; empty: any.",
      }),
    ),
  },
  { description: "HTTP requests; enforced by the application-layer proxy only." },
);

/** A protocol field is this protocol, by name or by number. */
const protocolIs = (field: string, name: string, number: number): string =>
  `(has(self.${field}) && (self.${field} == '${name}' || self.${field} == ${number}))`;
const familyIs = (version: number): string => `(!has(self.ipVersion) || self.ipVersion == ${version})`;
const noServicePorts = `!has(self.destination) || !has(self.destination.services) || ((!has(self.destination.ports) || size(self.destination.ports) == 0) && (!has(self.destination.notPorts) || size(self.destination.notPorts) == 0))`;

const familyRule = (field: string, name: string, number: number, version: number) =>
  cel(`!${protocolIs(field, name, number)} || ${familyIs(version)}`, `${field} ${name} goes with ipVersion ${version}`);

export const ruleSchema = object(
  {
    action: word(ACTIONS, { description: "Allow and Deny decide; Pass goes to the next tier; Log goes on." }),
    ipVersion: opt(Type.Unsafe<4 | 6>({ type: "integer", enum: [4, 6], description: "Packets of this family only." })),
    protocol: opt(intOrString({ description: "Name (TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite) or number." })),
    notProtocol: opt(intOrString({ description: "Any protocol but this." })),
    icmp: icmp("ICMP type and code."),
    notICMP: icmp("ICMP type and code that must not match."),
    source: entityRule("source"),
    destination: entityRule("destination"),
    http: opt(http),
    metadata: opt(object({ annotations: opt(stringMap()) }, { description: "Notes about the rule." })),
  },
  {
    description: "One rule: when everything matches, the action is taken.",
    ...checks(
      cel(
        "!has(self.http) || !has(self.protocol) || self.protocol == 'TCP' || self.protocol == 6",
        "an http match goes with protocol TCP",
      ),
      cel("!has(self.http) || self.action == 'Allow'", "an http match goes with action Allow", "FieldValueForbidden"),
      cel(noServicePorts, "a Service brings its own ports: leave out ports and notPorts", "FieldValueForbidden"),
      cel(
        `!has(self.icmp) || ${protocolIs("protocol", "ICMP", 1)} || ${protocolIs("protocol", "ICMPv6", 58)}`,
        "an icmp match needs protocol ICMP or ICMPv6",
      ),
      familyRule("protocol", "ICMP", 1, 4),
      familyRule("protocol", "ICMPv6", 58, 6),
      familyRule("notProtocol", "ICMP", 1, 4),
      familyRule("notProtocol", "ICMPv6", 58, 6),
    ),
  },
);

export const rulesSchema = (direction: string) =>
  opt(list(ruleSchema, { maxItems: 1024, description: `Rules for ${direction} packets, in order.` }));

export type Rule = TypeOf<typeof ruleSchema>;
export type EntityRule = NonNullable<Rule["source"]>;
export type Action = Rule["action"];
