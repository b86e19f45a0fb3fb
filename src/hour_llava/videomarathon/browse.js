"use strict";
// The page of `hour-llava synth browse`. Words of the build reach the page as text nodes only.
const PAGE = 100;
const index = JSON.parse(document.getElementById("index").textContent);
const byId = (id) => document.getElementById(id);
const state = { video: null, number: -1, row: null, shown: PAGE };

function make(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return node;
}

function clock(ms) {
  const seconds = Math.floor(ms / 1000), two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${two(m)}:${two(s)}`;
}
const between = (span) => `${clock(span.start_ms)} - ${clock(span.end_ms)}`;

function listVideos() {
  const wanted = byId("find-video").value.toLowerCase();
  const items = index.videos.map((video, number) => ({ video, number })).filter(({ video }) => `${video.path} ${video.id} ${video.source}`.toLowerCase().includes(wanted));
  byId("videos").replaceChildren(...items.map(({ video, number }) => make("li", {},
    make("button", { type: "button", "aria-current": number === state.number, onclick: () => openVideo(number) },
      make("div", {}, video.path),
      make("div", { class: "small" }, `${clock(video.duration_ms)} · ${video.num_accepted} of ${video.num_rows} rows · ${video.backend} `,
        video.kind === "demonstration" ? make("span", { class: "badge demonstration" }, "demonstration") : null)))));
}

function listSetAside() {
  byId("aside-box").hidden = !index.set_aside.length;
  byId("aside-box").firstElementChild.textContent = `${index.set_aside.length} set aside`;
  byId("set-aside").replaceChildren(...index.set_aside.map((item) => make("li", {}, make("b", {}, item.path), ` (${item.stage}: ${item.reason}) `, item.detail)));
}

function openVideo(number, rowId) {
  Object.assign(state, { number, row: null, shown: PAGE });
  state.video = JSON.parse(byId(`video-${number}`).textContent);
  const video = state.video;
  const player = make("video", { id: "player", controls: "", preload: "metadata", src: video.src, ontimeupdate: movePlayhead, onerror: () => { byId("cannot").hidden = false; } });
  byId("main").replaceChildren(
    make("h2", {}, video.path),
    make("p", { class: "small" }, `${clock(video.duration_ms)} · ${video.width} x ${video.height} · ${video.source} · licence: ${video.licence || "not stated"} · made by ${video.backend} · `,
      make("span", { class: `badge ${video.kind}` }, video.kind === "demonstration" ? "DEMONSTRATION, not training data" : "training data"), ` ${video.id}`),
    make("div", { id: "stage" },
      make("div", {}, player, make("p", { id: "cannot", class: "small", hidden: "" }, "The video file is not there or this browser cannot play it; times and words are still shown.")),
      make("div", { id: "detail" }, make("b", {}, "Whole video"), make("p", {}, video.global_caption || "no narrative yet"))),
    timeline(video),
    make("details", { ontoggle: fillCaptions }, make("summary", {}, `${video.events.length} events, ${video.captions.length} captions in words`)),
    filters(video), make("div", { id: "rows" }), make("button", { id: "more", type: "button", onclick: () => { state.shown += PAGE; listRows(); } }, "more"));
  listVideos();
  const row = rowId && video.rows.find((item) => item.id === rowId);
  if (row) { state.shown = Math.max(PAGE, video.rows.indexOf(row) + 1); }
  listRows();
  if (row) selectRow(row, true); else remember();
}

function remember() {
  const parts = [`v=${encodeURIComponent(state.video.id)}`];
  if (state.row) parts.push(`q=${encodeURIComponent(state.row.id)}`);
  history.replaceState(null, "", `#${parts.join("&")}`);
}

function block(kind, span, label, action) {
  const total = state.video.duration_ms;
  const node = make("button", { type: "button", class: kind, title: `${between(span)} ${label}`, onclick: action }, label);
  node.style.left = `${100 * span.start_ms / total}%`;
  node.style.width = `${Math.max(0.1, 100 * (Math.min(span.end_ms, total) - span.start_ms) / total)}%`;
  return node;
}

function timeline(video) {
  const steps = [5, 10, 30, 60, 120, 300, 600, 1200].map((s) => s * 1000);
  const step = steps.find((s) => video.duration_ms / s <= 12) || 3600000;
  const ruler = make("div", { id: "ruler" });
  for (let at = 0; at <= video.duration_ms; at += step) {
    const mark = make("span", {}, clock(at));
    mark.style.left = `${100 * at / video.duration_ms}%`;
    ruler.append(mark);
  }
  const events = video.events.map((event) => block("event", event.span, event.title, () => { seek(event.span.start_ms); showEvent(event); }));
  const clips = video.captions.map((caption, n) => block(`clip${n % 2 ? " odd" : ""}${caption.is_usable ? "" : " unusable"}`, caption.span, "", () => { seek(caption.span.start_ms); showCaption(caption); }));
  return make("div", { id: "timeline" }, make("div", { id: "tracks" }, make("div", { id: "head" }),
    make("div", { class: "lane", "aria-label": "events" }, ...events),
    make("div", { class: "lane clips", "aria-label": "clips" }, ...clips),
    make("div", { class: "lane", id: "evidence", "aria-label": "evidence of the chosen row" })), ruler);
}

function movePlayhead() {
  const head = byId("head");
  if (head) head.style.left = `${Math.min(100, 100000 * byId("player").currentTime / state.video.duration_ms)}%`;
}

function seek(ms) {
  const player = byId("player");
  player.currentTime = ms / 1000;
  byId("head").style.left = `${100 * ms / state.video.duration_ms}%`;
}

function showEvent(event) {
  byId("detail").replaceChildren(make("b", {}, `${between(event.span)} ${event.title}`), make("p", {}, event.narrative || "no narrative yet"), made(event.provenance));
}

function showCaption(caption, quote) {
  byId("detail").replaceChildren(make("b", {}, `${between(caption.span)} clip`), ...Object.entries(caption.aspects).map(([name, text]) => make("p", {}, make("span", { class: "small" }, `${name}: `), ...marked(text, quote))), verdicts(caption.verdicts), made(caption.provenance));
}

function marked(text, quote) {
  const at = quote ? text.indexOf(quote) : -1;
  return at < 0 ? [text] : [text.slice(0, at), make("mark", {}, quote), text.slice(at + quote.length)];
}

const made = (by) => make("p", { class: "small mono" }, [by.stage, by.backend, by.model, ...(by.call_keys || [])].filter(Boolean).join(" · "));

function fillCaptions(toggle) {
  const box = toggle.currentTarget;
  if (!box.open || box.children.length > 1) return;
  const line = (span, words, action) => make("p", {}, make("button", { class: "chip", type: "button", onclick: action }, between(span)), words);
  box.append(make("b", {}, "Events"), ...state.video.events.map((event) => line(event.span, `${event.title}: ${event.narrative}`, () => { seek(event.span.start_ms); showEvent(event); })),
    make("b", {}, "Clips"), ...state.video.captions.map((caption) => line(caption.span, caption.aspects.summary, () => { seek(caption.span.start_ms); showCaption(caption); })));
}

function choice(id, label, values) {
  return make("select", { id, "aria-label": label, onchange: () => { state.shown = PAGE; listRows(); } }, make("option", { value: "" }, label), ...values.map(([value, text]) => make("option", { value }, text)));
}

function filters(video) {
  const count = (key) => {
    const found = new Map();
    for (const row of video.rows) for (const value of [key(row)].flat()) found.set(value, (found.get(value) || 0) + 1);
    return found;
  };
  const tasks = count((row) => row.task), reasons = count((row) => row.reasons);
  const pairs = (found) => [...found].map(([value, number]) => [value, `${value} (${number})`]);
  return make("div", { class: "filters" },
    choice("task", "all tasks", index.tasks.filter((task) => tasks.has(task.slug)).map((task) => [task.slug, `${task.topic}: ${task.name} (${tasks.get(task.slug)})`])),
    choice("format", "both formats", [["oe", "open-ended"], ["mc", "multiple-choice"]]),
    choice("status", "every status", pairs(count((row) => row.status))),
    choice("reason", "every reason", pairs(reasons)),
    make("input", { id: "find-row", type: "search", placeholder: "find words", "aria-label": "find words", oninput: () => { state.shown = PAGE; listRows(); } }),
    make("span", { id: "count", class: "small" }));
}

function chosenRows() {
  const [task, format, status, reason] = ["task", "format", "status", "reason"].map((id) => byId(id).value);
  const words = byId("find-row").value.toLowerCase();
  return state.video.rows.filter((row) => (!task || row.task === task) && (!format || row.format === format) && (!status || row.status === status) && (!reason || row.reasons.includes(reason))
    && (!words || `${row.question} ${row.answer} ${row.id}`.toLowerCase().includes(words)));
}

function listRows() {
  const rows = chosenRows();
  byId("count").textContent = `${rows.length} of ${state.video.rows.length} rows`;
  byId("rows").replaceChildren(...rows.slice(0, state.shown).map(card));
  byId("more").hidden = rows.length <= state.shown;
  byId("more").textContent = `${rows.length - state.shown} more`;
}

function card(row) {
  const task = index.tasks.find((item) => item.slug === row.task);
  const node = make("section", { class: `card ${row.status}${state.row && state.row.id === row.id ? " selected" : ""}`, "data-row": row.id, onclick: () => { if (!state.row || state.row.id !== row.id) selectRow(row); } },
    make("div", { class: "small" }, make("span", { class: `badge ${row.status}` }, row.status), ` ${task ? `${task.topic}: ${task.name}` : row.task} · ${row.format === "mc" ? "multiple-choice" : "open-ended"} · ${row.form}-form · ${row.provenance.backend}`, row.reasons.length ? ` · ${row.reasons.join(", ")}` : null),
    make("p", { class: "question" }, row.question),
    row.options ? make("ol", {}, ...row.options.map((option) => make("li", { class: option === row.answer ? "right" : "" }, option, option === row.answer ? " ✓" : null))) : make("p", {}, row.answer),
    ...row.evidence.map((item) => make("p", {}, make("button", { class: "chip", type: "button", onclick: (click) => { click.stopPropagation(); selectRow(row); seekEvidence(item); } }, between(item.span)), make("q", {}, item.quote))),
    row.evidence.length ? null : make("p", { class: "small" }, "rests on absence: nothing to cite"),
    row.claim ? make("p", { class: "small" }, `computed: ${row.claim.claim} = ${row.claim.value}`, row.claim.term ? ` (${row.claim.term})` : null, ...(row.claim.items || []).map((item) => ` · ${item.label} ${between(item.span)}`)) : null,
    make("details", {}, make("summary", {}, `${row.verdicts.filter((v) => v.outcome === "pass").length} rules passed, ${row.verdicts.filter((v) => v.outcome === "fail").length} failed`), verdicts(row.verdicts), make("p", { class: "mono small" }, row.id), made(row.provenance)));
  return node;
}

function verdicts(list) {
  return make("table", {}, ...(list || []).map((verdict) => make("tr", {}, make("td", { class: verdict.outcome }, verdict.outcome), make("td", {}, verdict.rule), make("td", { class: "small" }, verdict.detail))));
}

function selectRow(row, isFirst) {
  state.row = row;
  byId("evidence").replaceChildren(...row.evidence.map((item) => block("evidence", item.span, "", () => seekEvidence(item))));
  for (const node of document.querySelectorAll(".card")) node.classList.toggle("selected", node.dataset.row === row.id);
  remember();
  if (row.evidence.length) seekEvidence(row.evidence[0]);
  if (isFirst) document.querySelector(".card.selected")?.scrollIntoView({ block: "center" });
}

function seekEvidence(item) {
  seek(item.span.start_ms);
  const caption = state.video.captions.find((other) => other.clip_id === item.clip_id);
  const event = state.video.events.find((other) => other.id === item.event_id);
  if (caption) showCaption(caption, item.quote); else if (event) showEvent(event);
}

function openFromAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const number = index.videos.findIndex((video) => video.id === wanted.get("v"));
  if (index.videos.length) openVideo(Math.max(0, number), wanted.get("q"));
}

byId("summary").textContent = index.summary;
byId("find-video").addEventListener("input", listVideos);
addEventListener("hashchange", openFromAddress);
listSetAside();
listVideos();
openFromAddress();
