// The status page: asks /status once a second and shows it. Everything shown is set as text, never as markup.
"use strict";

const EVERY_MS = 1000;
const PATIENCE_MS = 3000;
const SAMPLES = 60;
const KINDS = { http: "HTTP", http2: "HTTP/2", websocket: "WebSocket", tcp: "TCP" };

const $ = (id) => document.getElementById(id);
const say = (id, text) => { const el = $(id); if (el.textContent !== text) el.textContent = text; };

function element(name, text, className) {
  const el = document.createElement(name);
  if (text !== undefined) el.textContent = text;
  if (className) el.className = className;
  return el;
}

function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 60) return `${s.toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i += 1; }
  return `${i ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

function plural(n, one, many) { return `${n} ${n === 1 ? one : many}`; }

// "1m30s" as /status shows options; the inverse of what the configuration prints.
function parse(text) {
  const unit = { h: 3600, m: 60, s: 1, ms: 0.001 };
  return [...text.matchAll(/([\d.]+)(ms|h|m|s)/g)].reduce((sum, [, n, u]) => sum + Number(n) * unit[u], 0);
}

function story(status, open) {
  const { state, phase, drain, upstream, hold } = status;
  if (hold) return `New requests wait for a maintenance: ${hold.waiting} now. This ends in ${seconds(hold.ends_in_s)} at the latest.`;
  if (state === "starting") return `The app has not answered yet: ${upstream.reason}.`;
  if (state === "unready") return `This Pod should get no traffic: ${upstream.reason}.`;
  if (state === "ready") return "Traffic flows to the app. No drain is running.";
  if (phase === "propagating") {
    return `Everything is served while the cluster learns that this Pod is ending: ${seconds(drain.floor_in_s)} more at least.`;
  }
  if (phase === "forcing") return "The deadline has passed: work in flight is being cut.";
  if (phase === "finishing") {
    return open ? `Waiting for ${plural(open, "piece", "pieces")} of work to finish.` : "Nothing is in flight: waiting for quiet.";
  }
  if (drain && drain.outcome === "forced") {
    return `The deadline passed and ${plural(drain.cut_total, "piece", "pieces")} of work had to be cut. The app may be stopped.`;
  }
  if (drain && drain.outcome === "still-arriving") {
    return "All work is finished, but requests still arrived: a sender has not learned that this Pod is ending. The app may be stopped.";
  }
  return "All work is finished. The app may be stopped.";
}

function showBudget(status) {
  const { drain, config, state } = status;
  const running = state === "draining";
  const over = state === "drained";
  const budget = running ? drain.elapsed_s + drain.deadline_in_s : parse(config["drain-timeout"]);
  const floor = Math.min(1, parse(config["propagation-delay"]) / budget);
  const used = running || over ? Math.min(1, drain.elapsed_s / budget) : 0;
  $("used").style.width = `${100 * used}%`;
  $("floor").style.left = $("floor-label").style.left = `${100 * floor}%`;
  say("floor-label", floor > (running || over ? 0.08 : 0.16) && floor < 0.85 ? `floor ${config["propagation-delay"]}` : "");
  say("trigger-label", running || over ? "trigger" : "budget of a drain");
  say("deadline-label", running ? `deadline in ${seconds(drain.deadline_in_s)}` : `deadline ${seconds(budget)}`);
  $("track").setAttribute("aria-valuenow", String(Math.round(100 * used)));
}

function showFacts(status) {
  const drain = status.drain;
  const past = drain && !["draining", "drained"].includes(status.state);
  $("whose").hidden = !past;
  say("whose", past ? `The last drain, ${new Date(drain.started_at * 1000).toLocaleString()}` : "");
  $("advice").hidden = !(drain && drain.advice);
  say("advice", drain && drain.advice ? `Advice: ${drain.advice}.` : "");
  const facts = !drain ? [] : [
    ["trigger", drain.trigger],
    [drain.outcome ? "took" : "running for", seconds(drain.elapsed_s)],
    ["arrivals", String(drain.arrivals)],
    ["late", String(drain.late)],
    ["last arrival after", seconds(drain.last_arrival_s)],
    ["completed", String(drain.completed)],
    ["cut", String(drain.cut_total)],
    ["clients that left", drain.departed ? String(drain.departed) : null],
    ["broken off by the app", drain.broken ? String(drain.broken) : null],
    ["lost after the end", drain.lost ? String(drain.lost) : null],
    ["handed over", drain.handed_over ? String(drain.handed_over) : null],
    ["app may stop since", drain.let_go_s === null ? null : `${seconds(drain.let_go_s)} after the trigger`],
    ["outcome", drain.outcome],
  ];
  pairs($("facts"), facts.filter(([, value]) => value !== null));
}

function pairs(list, entries) {
  list.replaceChildren(...entries.map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value === null ? "not set" : String(value), value === null ? "unset" : ""));
    return pair;
  }));
}

function showRoutes(status) {
  const routes = status.routes || [{ listen: status.config.listen, upstream: status.upstream.address, ...status.upstream }];
  const processes = (status.children || []).map((child) => {
    const item = element("li", `Process ${child.number} of the app `, child.state === "serving" ? "well" : "ill");
    item.append(element("span", `${child.state}, pid ${child.pid}, on ${child.address}`));
    return item;
  });
  $("routes").replaceChildren(...routes.map((route) => {
    const item = element("li", `${route.listen} → ${route.upstream} `, route.healthy ? "well" : "ill");
    item.append(element("span", route.reason));
    return item;
  }), ...processes);
}

function row(work) {
  const tr = element("tr");
  const what = element("td", work.method ? `${work.method} ${work.target}` : "connection", "what");
  if (work.handed_over) what.append(" ", element("span", "handed over", "left"));
  if (work.client_left) what.append(" ", element("span", "client left", "left"));
  tr.append(element("td", seconds(work.age_s), "age"), element("td", KINDS[work.kind] || work.kind, "kind"), what, element("td", work.client, "client"));
  return tr;
}

function showOldest(oldest) {
  $("oldest").tBodies[0].replaceChildren(...oldest.map(row));
  $("oldest").hidden = oldest.length === 0;
  $("nothing").hidden = oldest.length !== 0;
}

function showCut(status) {
  const cut = (status.state === "drained" && status.drain && status.drain.cut) || [];
  $("cut-section").hidden = cut.length === 0;
  $("cut").tBodies[0].replaceChildren(...cut.map(row));
  const more = cut.length ? status.drain.cut_total - cut.length : 0;
  say("cut-more", more > 0 ? `and ${more} more` : "");
}

let before = null;
const rates = [];

function showRates(totals, at) {
  if (before && totals.requests >= before.totals.requests) {
    const passed = (at - before.at) / 1000;
    const rate = (name) => (totals[name] - before.totals[name]) / passed;
    const requests = rate("requests");
    say("rate", requests < 10 ? requests.toFixed(1) : String(Math.round(requests)));
    say("bytes-out", `${bytes(rate("bytes_out"))}/s`);
    say("bytes-in", `to clients, ${bytes(rate("bytes_in"))}/s in`);
    rates.push(requests);
    if (rates.length > SAMPLES) rates.shift();
    const top = Math.max(1, ...rates);
    // From the second look on the line takes the whole width: the seconds that are known, at most a minute.
    const last = Math.max(1, rates.length - 1);
    const known = rates.length > 1 ? rates : [requests, requests];
    const points = known.map((r, i) => `${(120 * i) / last},${26 - (24 * r) / top}`);
    $("line").setAttribute("points", points.join(" "));
    $("area").setAttribute("points", `0,28 ${points.join(" ")} 120,28`);
    $("spark").setAttribute("aria-label", `requests per second in the last ${plural(last, "second", "seconds")}, at most ${top.toFixed(1)}`);
  }
  before = { totals, at };
}

function show(status, at) {
  const open = Object.values(status.in_flight).reduce((a, b) => a + b, 0);
  const outcome = status.state === "drained" && status.drain ? status.drain.outcome : null;
  document.body.dataset.state = status.state;
  document.body.dataset.alarm = status.phase === "forcing" || outcome === "forced" ? "yes" : "no";
  document.body.dataset.warning = outcome === "still-arriving" ? "yes" : "no";
  document.title = `${status.state} · drainproxy`;
  say("version", status.generation > 1 ? `${status.version}, generation ${status.generation}` : status.version);
  say("state", status.state === "draining" ? `draining: ${status.phase}` : status.state);
  say("story", story(status, open));
  showBudget(status);
  showFacts(status);
  say("in-flight", String(open));
  say("kinds", Object.entries(status.in_flight).filter(([, n]) => n).map(([kind, n]) => `${n} ${KINDS[kind] || kind}`).join(" · ") || "nothing to wait for");
  say("connections", String(status.connections.client));
  say("upstream-connections", `to the app: ${status.connections.upstream_busy} busy, ${status.connections.upstream_idle} idle`);
  showRates(status.totals, at);
  showRoutes(status);
  showOldest(status.oldest);
  showCut(status);
  showHands(status);
  pairs($("config"), Object.entries(status.config));
}

// By hand. The browser says from which site a request comes; the server refuses those of others (admin/access.py).

function showHands(status) {
  $("drain").disabled = ["draining", "drained"].includes(status.state);
  $("resume").disabled = !$("drain").disabled;
  $("token-row").hidden = status.config["drain-access"] !== "token";
  const curl = `curl${$("token-row").hidden ? "" : ' -H "X-Drain-Token: $TOKEN"'} -X POST ${location.origin}`;
  say("drain-command", `${curl}/drain?wait=0`);
  say("resume-command", `${curl}/resume`);
}

async function post(path) {
  const headers = $("token").value ? { "X-Drain-Token": $("token").value } : {};
  try {
    const response = await fetch(path, { method: "POST", headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    say("said", response.ok ? "" : `${response.status}: ${(await response.text()).trim()}`);
  } catch (error) {
    say("said", `no answer: ${error.message}`);
  }
}

async function copy(button) {
  const command = $(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(command.textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  } catch { // not allowed here (no https, not localhost): leave it selected for Ctrl-C
    getSelection().selectAllChildren(command);
  }
}

$("drain").addEventListener("click", () => $("sure").showModal());
$("sure").addEventListener("close", () => { if ($("sure").returnValue === "yes") post("drain?wait=0"); $("sure").returnValue = ""; });
$("resume").addEventListener("click", () => post("resume"));
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));

let seen = null;

async function ask() {
  try {
    const response = await fetch("status?totals=1", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!response.ok) throw new Error(String(response.status));
    show(await response.json(), performance.now());
    seen = new Date();
    document.body.dataset.stale = "no";
    say("live", "live");
  } catch {
    document.body.dataset.stale = "yes";
    say("live", seen ? `no answer since ${seen.toLocaleTimeString()}` : "no answer");
  }
  setTimeout(ask, EVERY_MS);
}

ask();
