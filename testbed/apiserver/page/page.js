// The cluster as a living picture. Names and messages come from whoever uses the cluster: they are only ever text.
"use strict";

const PERIOD_MS = 1000;
const DRAWN_PODS = 1000; // above, each node says how many it has
const NAMED_PODS = 80; // above, pods are squares without their names

const byId = (id) => document.getElementById(id);
let picture = null;
let drawn = ""; // what the present drawing was made of
let chosen = ""; // pod/NAMESPACE/NAME, node/NAME, ext/NAME, service/NAMESPACE/NAME

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { dataset = {}, ...others } = properties;
  Object.assign(element, others);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  if (!response.ok) {
    const status = await response.json().catch(() => ({}));
    throw new Error(status.message || `${response.status} ${response.statusText}`);
  }
  return response.json();
}

// -- the picture ------------------------------------------------------------------------------------------------------

function podCondition(pod) {
  if (["Failed", "Error"].includes(pod.status) || /BackOff|ErrImage|OOM|CreateContainer/.test(pod.status)) return "bad";
  if (pod.status === "Completed") return "good";
  return pod.ready ? "good" : "wait";
}

const sign = { good: "", wait: "… ", bad: "✗ " };

function podButton(pod, named) {
  const condition = podCondition(pod);
  const title = `${pod.namespace}/${pod.name}: ${pod.status}, ${pod.ready ? "ready" : "not ready"}, ${pod.ip || "no address yet"}`;
  const text = named ? sign[condition] + pod.name : sign[condition].trim();
  const button = make("button", { className: `pod ${condition}`, title, textContent: text });
  button.setAttribute("aria-label", `pod ${title}`);
  button.dataset.ref = `pod/${pod.namespace}/${pod.name}`;
  return button;
}

function elementButton(element) {
  return make(
    "button",
    { className: `element ${element.kind}`, dataset: { ref: `${element.kind}/${element.name}`, element: element.name } },
    element.name,
    make("small", { textContent: element.address || element.kind }),
  );
}

function nodeCard(element, pods, named) {
  const node = picture.nodes[element.name] || {};
  const notes = [node.ready ? "" : "not ready", node.schedulable ? "" : "cordoned"].filter(Boolean).join(", ");
  const head = make(
    "button",
    { dataset: { ref: `node/${element.name}` } },
    make("b", { textContent: element.name }),
    notes ? make("span", { className: "bad", textContent: ` ✗ ${notes}` }) : "",
    make("small", { textContent: `${element.address} · pods ${node.podCIDR || "-"}` }),
  );
  const inside = make("div", { className: "pods" });
  if (picture.pods.length > DRAWN_PODS) {
    const ready = pods.filter((pod) => pod.ready).length;
    inside.append(`${pods.length} pods, ${ready} ready`);
  } else {
    inside.append(...pods.map((pod) => podButton(pod, named)));
  }
  return make("div", { className: `node${node.ready ? "" : " away"}`, dataset: { element: element.name } }, head, inside);
}

function drawTiers() {
  const podsByNode = new Map();
  for (const pod of picture.pods) {
    if (!podsByNode.has(pod.node)) podsByNode.set(pod.node, []);
    podsByNode.get(pod.node).push(pod);
  }
  const named = picture.pods.length <= NAMED_PODS;
  byId("tiers").className = named ? "" : "many";
  byId("tiers").replaceChildren(
    ...picture.tiers.map((tier) =>
      make(
        "div",
        { className: "tier" },
        ...tier.map((element) =>
          element.kind === "node" ? nodeCard(element, podsByNode.get(element.name) || [], named) : elementButton(element),
        ),
      ),
    ),
  );
  const homeless = podsByNode.get("") || [];
  if (homeless.length) {
    byId("tiers").append(make("p", {}, "without a node: ", ...homeless.map((pod) => podButton(pod, true))));
  }
}

function drawServices() {
  byId("services").replaceChildren(
    ...picture.services.map((service) => {
      const count = service.endpoints.length;
      const notes = `${service.clusterIP || service.type} · ${service.ports.join(", ") || "no port"}`;
      return make(
        "button",
        { className: "service", dataset: { ref: `service/${service.namespace}/${service.name}` } },
        `${service.namespace}/${service.name}`,
        make("small", { textContent: notes }),
        make("small", { className: count ? "good" : "bad", textContent: `${count ? "" : "✗ "}${count} endpoint${count === 1 ? "" : "s"}` }),
      );
    }),
  );
}

function rate(bitsPerSecond) {
  for (const [unit, size] of [["Gbit/s", 1e9], ["Mbit/s", 1e6], ["kbit/s", 1e3]]) {
    if (bitsPerSecond >= size) return `${(bitsPerSecond / size).toPrecision(3)} ${unit}`;
  }
  return `${Math.round(bitsPerSecond)} bit/s`;
}

function drawWires() {
  const ground = byId("picture").getBoundingClientRect();
  const svg = byId("wires");
  const scroll = { x: byId("picture").scrollLeft, y: byId("picture").scrollTop };
  const boxes = new Map();
  for (const element of document.querySelectorAll("[data-element]")) {
    const box = element.getBoundingClientRect();
    boxes.set(element.dataset.element, {
      x: box.left + box.width / 2 - ground.left + scroll.x,
      top: box.top - ground.top + scroll.y,
      bottom: box.bottom - ground.top + scroll.y,
    });
  }
  const busiest = Math.max(1e4, ...picture.links.map((link) => link.bitsPerSecond || 0));
  const shapes = [];
  for (const link of picture.links) {
    let [upper, lower] = [boxes.get(link.a), boxes.get(link.b)];
    if (!upper || !lower) continue;
    if (upper.top > lower.top) [upper, lower] = [lower, upper];
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const ends = { x1: upper.x, y1: upper.bottom, x2: lower.x, y2: upper.top === lower.top ? lower.bottom : lower.top };
    for (const [name, value] of Object.entries(ends)) line.setAttribute(name, value);
    const use = link.bitsPerSecond || 0;
    if (use >= 1000) {
      line.setAttribute("class", "busy");
      line.style.strokeWidth = 1.5 + 5 * Math.sqrt(use / busiest);
      const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
      // Nearer to an end, one after the other, so that the texts of crossing wires do not meet.
      const along = shapes.length % 4 === 0 ? 0.72 : 0.32;
      text.setAttribute("x", ends.x1 + along * (ends.x2 - ends.x1) + 6);
      text.setAttribute("y", ends.y1 + along * (ends.y2 - ends.y1) + 4);
      text.textContent = rate(use);
      shapes.push(text);
    }
    shapes.unshift(line);
  }
  svg.replaceChildren(...shapes);
}

function drawConversations() {
  const names = new Map(picture.pods.filter((pod) => pod.ip).map((pod) => [pod.ip, `${pod.namespace}/${pod.name}`]));
  for (const tier of picture.tiers) for (const element of tier) if (element.address) names.set(element.address, element.name);
  const services = new Map();
  for (const service of picture.services) services.set(service.clusterIP, `${service.namespace}/${service.name}`);
  const name = (address) => names.get(address) || services.get(address) || address;
  byId("conversations").tBodies[0].replaceChildren(
    ...picture.conversations.map((talk) =>
      make(
        "tr",
        {},
        make("td", { textContent: name(talk.from) }),
        make("td", { textContent: name(talk.to) }),
        make("td", { textContent: talk.via ? name(talk.via) : "-" }),
        make("td", { className: "number", textContent: talk.packetsPerSecond === null ? "" : talk.packetsPerSecond.toFixed(0) }),
      ),
    ),
  );
}

function drawEvents() {
  byId("events").replaceChildren(
    ...picture.events.map((event) =>
      make(
        "li",
        {},
        make("b", { className: event.type === "Warning" ? "bad" : "", textContent: `${event.type === "Warning" ? "✗ " : ""}${event.reason} ` }),
        event.message,
        make("small", { textContent: `${event.object} · ${event.when}${event.count > 1 ? ` · ${event.count} times` : ""}` }),
      ),
    ),
  );
}

function drawChoices() {
  const option = (value) => make("option", { value });
  const places = [];
  for (const tier of picture.tiers) {
    for (const element of tier) if (["node", "ext"].includes(element.kind)) places.push(`${element.kind}/${element.name}`);
  }
  places.unshift(...picture.pods.map((pod) => `pod/${pod.namespace}/${pod.name}`));
  const targets = picture.services.flatMap((service) =>
    service.ports.map((port) => `service/${service.namespace}/${service.name}:${port.split("/")[0]}`),
  );
  byId("places").replaceChildren(...places.map(option));
  byId("targets").replaceChildren(...[...targets, ...places].map(option));
}

function markChosen() {
  for (const element of document.querySelectorAll(".chosen")) element.classList.remove("chosen");
  const element = [...document.querySelectorAll("[data-ref]")].find((each) => each.dataset.ref === chosen);
  if (element) element.classList.add("chosen");
}

// -- what is chosen ---------------------------------------------------------------------------------------------------

function rows(entries) {
  return entries.flatMap(([name, value]) => [
    make("dt", { textContent: name }),
    make("dd", { textContent: value === undefined || value === null || value === "" ? "-" : String(value) }),
  ]);
}

function labels(object) {
  return Object.entries(object.metadata.labels || {}).map(([name, value]) => `${name}=${value}`).join(", ");
}

function conditions(object) {
  return ((object.status || {}).conditions || []).map((each) => [each.type, `${each.status}${each.reason ? `, ${each.reason}` : ""}`]);
}

function describePod(pod) {
  const containers = ((pod.status || {}).containerStatuses || []).map((each) => {
    const [state, details] = Object.entries(each.state || {})[0] || ["unknown", {}];
    const why = [details.reason, details.message].filter(Boolean).join(": ");
    return [`container ${each.name}`, `${state}${why ? `, ${why}` : ""}, ${each.restartCount} restarts, image ${each.image}`];
  });
  return [["phase", (pod.status || {}).phase], ["node", (pod.spec || {}).nodeName], ["address", (pod.status || {}).podIP], ["labels", labels(pod)], ...containers, ...conditions(pod)];
}

function describeService(service) {
  const { spec } = service;
  const found = picture.services.find((each) => each.namespace === service.metadata.namespace && each.name === service.metadata.name);
  const selector = Object.entries(spec.selector || {}).map(([name, value]) => `${name}=${value}`).join(", ");
  return [["type", spec.type], ["cluster address", spec.clusterIP], ["ports", found ? found.ports.join(", ") : ""], ["selector", selector], ["endpoints", found ? found.endpoints.join(", ") : ""]];
}

function describeNode(node) {
  const { nodeInfo = {} } = node.status || {};
  return [["pods' addresses", node.spec.podCIDR], ["unschedulable", node.spec.unschedulable ? "yes" : "no"], ["kernel", nodeInfo.kernelVersion], ["labels", labels(node)], ...conditions(node)];
}

async function describe() {
  const [kind, ...names] = chosen.split("/");
  byId("chosen").textContent = chosen || "Choose a node, a pod or a Service";
  markChosen();
  if (!chosen) return;
  const actions = [];
  if (["pod", "node", "ext"].includes(kind)) {
    actions.push(make("button", { type: "button", textContent: "trace from here", onclick: () => { byId("from").value = chosen; } }), " ");
  }
  if (kind !== "router" && kind !== "bridge") {
    const port = kind === "service" && (picture.services.find((each) => `service/${each.namespace}/${each.name}` === chosen) || { ports: [] }).ports[0];
    actions.push(make("button", { type: "button", textContent: "trace to here", onclick: () => { byId("to").value = port ? `${chosen}:${port.split("/")[0]}` : chosen; } }));
  }
  byId("actions").replaceChildren(...actions);
  try {
    if (kind === "pod") await fill(`/api/v1/namespaces/${names.map(encodeURIComponent).join("/pods/")}`, describePod);
    else if (kind === "service") await fill(`/api/v1/namespaces/${names.map(encodeURIComponent).join("/services/")}`, describeService);
    else if (kind === "node") await fill(`/api/v1/nodes/${encodeURIComponent(names[0])}`, describeNode);
    else byId("details").replaceChildren(...rows([["kind", kind], ["links", picture.links.filter((link) => [link.a, link.b].includes(names[0])).map((link) => `${link.a} - ${link.b}${link.shape ? ` (${link.shape})` : ""}`).join(", ")]]));
  } catch (error) {
    byId("details").replaceChildren(...rows([["error", error.message]]));
  }
}

async function fill(path, described) {
  const wanted = chosen;
  const object = await get(path);
  const { namespace = "", name } = object.metadata;
  const events = await get(`/api/v1/${namespace ? `namespaces/${encodeURIComponent(namespace)}/` : ""}events?fieldSelector=${encodeURIComponent(`involvedObject.name=${name},involvedObject.kind=${object.kind}`)}`);
  if (wanted !== chosen) return; // something else was chosen meanwhile
  const told = events.items.slice(-10).map((event) => [event.reason, `${event.message}${event.count > 1 ? ` (${event.count} times)` : ""}`]);
  byId("details").replaceChildren(...rows([...described(object), ...told]));
}

async function traceWay() {
  const [source, target] = [byId("from").value.trim(), byId("to").value.trim()];
  byId("way").textContent = "following the packet …";
  try {
    const way = await get(`trace?from=${encodeURIComponent(source)}&to=${encodeURIComponent(target)}`);
    byId("way").textContent = `${way.succeeded ? "It arrives, and so does the reply." : "✗ It does not get through."}\n\n${way.text}`;
  } catch (error) {
    byId("way").textContent = `✗ ${error.message}`;
  }
}

// -- the link says what is chosen: #pod/default/web or #trace=pod/default/a,service/default/web:80 --------------------

function followLink() {
  const link = decodeURIComponent(location.hash.slice(1));
  if (link.startsWith("trace=")) {
    [byId("from").value, byId("to").value] = link.slice("trace=".length).split(",");
    traceWay();
  } else if (link !== chosen) {
    chosen = link;
    describe();
  }
}

async function refresh() {
  if (document.hidden && picture) return;
  try {
    picture = await get("picture");
  } catch (error) {
    byId("state").className = "bad";
    byId("state").textContent = `✗ the cluster does not answer: ${error.message}`;
    return;
  }
  byId("state").className = "";
  byId("state").textContent = "";
  document.title = byId("name").textContent = picture.name;
  const ready = picture.pods.filter((pod) => pod.ready).length;
  byId("facts").textContent = `${picture.mode} · proxy ${picture.proxy} · ${Object.keys(picture.nodes).length} nodes · ${ready} of ${picture.pods.length} pods ready · ${picture.services.length} Services`;
  const { links, conversations, events, ...rest } = picture;
  const now = JSON.stringify(rest);
  if (now !== drawn) {
    const focused = document.activeElement && document.activeElement.dataset.ref;
    drawn = now;
    drawTiers();
    drawServices();
    drawChoices();
    markChosen();
    const again = focused && [...document.querySelectorAll("[data-ref]")].find((each) => each.dataset.ref === focused);
    if (again) again.focus();
    if (chosen) describe();
  }
  drawWires();
  drawConversations();
  drawEvents();
}

document.addEventListener("click", (event) => {
  const found = event.target.closest("[data-ref]");
  if (found) location.hash = found.dataset.ref;
});
byId("trace").addEventListener("submit", (event) => {
  event.preventDefault();
  const link = `#trace=${byId("from").value.trim()},${byId("to").value.trim()}`;
  if (location.hash === link) traceWay();
  else location.hash = link;
});
window.addEventListener("hashchange", followLink);
window.addEventListener("resize", () => picture && drawWires());
refresh().then(() => {
  followLink();
  setInterval(refresh, PERIOD_MS);
});
