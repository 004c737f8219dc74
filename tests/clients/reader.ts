/** Code that uses the generated types: it compiles, and each line below an expected error does not. */

import type { components, operations, paths } from "./api.js";

type CloudEvent = components["schemas"]["CloudEvent"];
type Page = operations["readResourceFeed"]["responses"][200];
type Query = NonNullable<paths["/events/api/v1/app/{org}/{app}"]["get"]["parameters"]["query"]>;
type Batch = NonNullable<operations["publishEvents"]["requestBody"]>["content"]["application/cloudevents-batch+json"];

export const event: CloudEvent = {
  specversion: "1.0",
  id: "1",
  source: "https://reports.example/nightly",
  type: "report.ready",
  resource: "urn:altinn:resource:ttd-reports",
  data: { pages: 12 },
  priority: 7,
};

export const batch: Batch = [event];

export const query: Query = { from: "2026-01-01T00:00:00Z", type: ["report.ready"], size: 100 };

export function read(page: Page): [CloudEvent[], string] {
  return [page.content["application/cloudevents+json"], page.headers.next];
}

// @ts-expect-error: the version is always "1.0"
export const version: CloudEvent["specversion"] = "2.0";

// @ts-expect-error: `next` is a text
export const next: Page["headers"]["next"] = 7;
