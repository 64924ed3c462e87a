/** The API's reference, drawn from the service's own descriptions: no library and no foreign host. */

const DEEPEST = 6; // schemas in schemas

/** An element with attributes and children; text is never read as HTML. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** What a reference `#/a/b` in a description stands for; anything else is itself. */
const resolved = (whole, part) =>
  part?.$ref ? part.$ref.slice(2).split("/").reduce((found, step) => found[step], whole) : part;

const nameOf = (part) => part?.$ref?.split("/").at(-1);

/** A type in words: `integer`, `list of Rle`, `"rle" or "polygons"`. */
function typeOf(schema = {}) {
  if (schema.$ref) return nameOf(schema);
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  const several = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (several) return several.map(typeOf).join(" or ");
  if (schema.prefixItems) return `[${schema.prefixItems.map(typeOf).join(", ")}]`;
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.format === "binary") return "bytes";
  return schema.type ?? "any";
}

const BOUNDS = {
  minimum: "at least", exclusiveMinimum: "above", maximum: "at most", exclusiveMaximum: "below",
  minLength: "characters at least", maxLength: "characters at most", minItems: "items at least", maxItems: "items at most",
};

/** Bounds and the default, where there are any. */
function boundsOf(schema = {}) {
  const told = [schema, ...(schema.anyOf ?? [])].flatMap((part) =>
    Object.entries(BOUNDS).filter(([key]) => key in part).map(([key, words]) => `${words} ${part[key]}`));
  if (schema.default !== undefined && schema.default !== null) told.push(`default ${JSON.stringify(schema.default)}`);
  return told.join(", ");
}

function table(heads, rows) {
  const cells = (row) => row.map((cell, place) => element(place ? "td" : "th", place ? {} : { scope: "row" }, cell));
  return element("table", {},
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, cells(row)))));
}

/** The schemas that a schema is made of, each to be opened. */
function parts(whole, schema, depth = 0) {
  const inner = [schema, ...(schema?.anyOf ?? schema?.oneOf ?? schema?.allOf ?? schema?.prefixItems ?? []), schema?.items, schema?.items?.anyOf].flat();
  return depth < DEEPEST ? inner.filter((part) => part?.$ref).map((part) => schemaDetails(whole, part, depth + 1)) : [];
}

function schemaDetails(whole, reference, depth) {
  const details = element("details", {}, element("summary", {}, element("code", {}, nameOf(reference))));
  // Drawn when it is opened: schemas may hold each other.
  details.addEventListener("toggle", () => details.append(...members(whole, resolved(whole, reference), depth)), { once: true });
  return details;
}

/** What a schema says, and a table of its members. */
function members(whole, schema, depth = 0) {
  const rows = Object.entries(schema?.properties ?? {}).map(([name, member]) => [
    element("code", {}, name), element("code", {}, typeOf(member)),
    [member.description ?? "", boundsOf(member)].filter(Boolean).join("; "),
    schema.required?.includes(name) ? "yes" : "",
  ]);
  return [
    schema?.description ? element("p", {}, schema.description) : null,
    rows.length ? table(["Member", "Type", "What", "Always there"], rows) : null,
    ...Object.values(schema?.properties ?? {}).flatMap((member) => parts(whole, member, depth)),
  ].filter(Boolean);
}

function content(whole, contents) {
  return Object.entries(contents ?? {}).flatMap(([kind, { schema }]) => [
    element("p", {}, element("code", {}, kind), schema?.$ref ? "" : ` ${typeOf(schema)}`),
    ...(schema?.$ref ? [schemaDetails(whole, schema, 0)] : members(whole, schema)),
  ]);
}

function call(whole, path, method, operation) {
  const parameters = (operation.parameters ?? []).map(({ name, in: place, required, description, schema }) => [
    element("code", {}, name), element("code", {}, typeOf(schema)),
    [`${place}${required ? "" : ", may be left out"}`, description, boundsOf(schema)].filter(Boolean).join("; "),
  ]);
  const [good, bad] = [[], []];
  for (const [status, answer] of Object.entries(operation.responses)) (status < "400" ? good : bad).push([status, answer]);
  const problems = bad.map(([status, { description }]) => [element("code", {}, status), description.replaceAll("`", "")]);
  return element("section", { id: operation.operationId, "aria-label": operation.summary },
    element("h3", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path)),
    element("p", {}, operation.description ?? operation.summary),
    parameters.length ? [element("h4", {}, "Parameters"), table(["Name", "Type", "What"], parameters)] : null,
    operation.requestBody ? [element("h4", {}, "Body"), ...content(whole, operation.requestBody.content)] : null,
    ...good.map(([status, answer]) => [element("h4", {}, `Answer ${status}`), ...content(whole, answer.content)]),
    problems.length ? [element("h4", {}, "Problems"), table(["Status", "Types"], problems)] : null);
}

function stream(whole) {
  const { address, bindings } = whole.channels.stream;
  const query = Object.entries(bindings.ws.query.properties).map(([name, schema]) => [
    element("code", {}, name), element("code", {}, typeOf(schema)), boundsOf(schema),
  ]);
  const messages = ({ action, messages: spoken }) => [
    element("h4", {}, action === "receive" ? "Client to service" : "Service to client"),
    ...spoken.map((reference) => schemaDetails(whole, resolved(whole, resolved(whole, reference)).payload, 0)),
  ];
  return element("section", { id: "stream", "aria-label": "Stream" },
    element("h3", {}, element("span", { class: "method" }, "WS"), element("code", {}, address)),
    element("p", {}, whole.info.description),
    element("h4", {}, "Parameters"), table(["Name", "Type", "What"], query),
    ...Object.values(whole.operations).map(messages));
}

async function describe(address) {
  const answer = await fetch(address, { signal: AbortSignal.timeout(30_000) });
  if (!answer.ok) throw new Error(`${address} was answered ${answer.status}`);
  return answer.json();
}

async function draw() {
  const [rest, socket] = await Promise.all([describe("/openapi.json"), describe("/asyncapi.json")]);
  const groups = new Map();
  for (const [path, methods] of Object.entries(rest.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const [tag = "others"] = operation.tags ?? [];
      groups.set(tag, [...(groups.get(tag) ?? []), { path, method, operation }]);
    }
  }
  const links = [...groups].flatMap(([tag, calls]) => [
    element("h2", {}, tag[0].toUpperCase() + tag.slice(1)),
    ...calls.map(({ path, method, operation }) => element("a", { href: `#${operation.operationId}` }, `${method.toUpperCase()} ${path}`)),
  ]);
  document.getElementById("contents").append(...links, element("h2", {}, "WebSocket"), element("a", { href: "#stream" }, socket.channels.stream.address));
  const calls = [...groups.values()].flat();
  document.getElementById("calls").replaceChildren(...calls.map(({ path, method, operation }) => call(rest, path, method, operation)), stream(socket));
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

draw().catch((error) => { document.getElementById("status").textContent = `The description cannot be read: ${error.message}. Reload the page.`; });
