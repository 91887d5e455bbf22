// The page of a fleet: it shows what the server sends each second, and computes nothing of its own
// but where a point lies. All that comes from nodes is set as text.
import { add } from "./plots.js";
import { showFindings } from "./findings.js";
import { watchSessions } from "./sessions.js";
import { at, number, table } from "./table.js";

/** Shows the big numbers. */
function showNumbers(/** @type {Report} */ t) {
	const dropped = Object.values(t.sessions.dropped).reduce((a, b) => a + b, 0);
	/** @type {[string, number][]} */
	const all = [
		["sessions captured", t.sessions.captured], ["delivered", t.sessions.delivered],
		["in flight", t.sessions.in_flight], ["dropped", dropped], ["turns", t.gate.turns],
		["open connections", t.open_connections], ["lost in the kernel", t.packets.kernel_drop],
	];
	at("numbers").replaceChildren(...all.map(([name, n]) => {
		const box = document.createElement("div");
		box.append(Object.assign(document.createElement("dt"), { textContent: name }),
			Object.assign(document.createElement("dd"), { textContent: number(n), id: "n-" + name.replaceAll(" ", "-") }));
		return box;
	}));
}

/** Shows the fidelity and its verdict. */
function showScore(/** @type {Report} */ t) {
	const score = t.fidelity ? t.fidelity.value : null;
	at("score").textContent = score === null ? "–" : (Math.floor(score * 10) / 10).toFixed(1);
	at("score").className = score === null ? "soft" : score >= 99 ? "good" : score >= 90 ? "fair" : "bad";
	at("verdict").textContent = t.fidelity ? t.fidelity.verdict : "";
}

const judged = { same: "good", "cannot tell": "fair" };

/** Shows what a comparison of the answers has found so far. */
function showCompared(/** @type {State} */ s, /** @type {Report} */ t) {
	const c = t.compare;
	at("compared").hidden = !c;
	if (!c) return;
	at("compared-word").textContent = c.verdict;
	at("compared-word").className = judged[/** @type {keyof judged} */ (c.verdict)] || "bad";
	at("compared-why").textContent = c.why.join("; ");
	at("compared-count").textContent = number(c.compared) + " of " + number(c.answers_due) + " answers were compared" +
		(s.more_cells ? ". " + number(s.more_cells) + " more differences are in the report." : ".");
	table("cells", ["requests", "where", "what differs", "production", "target", "#sessions", "proven"],
		c.cells.map((x) => [x.endpoint, x.path, x.kind + (x.recognised ? " of a " + x.recognised : ""), x.production,
			x.target, number(x.sessions), x.proven ? "yes" : "no"]));
}

/** Returns how many answers of a side are of a class; of a side that is not read there are none. */
const of = (/** @type {Counts} */ side, /** @type {string} */ c) =>
	Object.keys(side).length === 0 ? "–" : number(side[c] || 0);

/** Shows what became of the sessions. */
function showAccount(/** @type {State} */ s, /** @type {Report} */ t) {
	const text = s.flow.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ');
	const flow = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
	at("flow").replaceChildren(...(s.flow ? [document.importNode(flow, true)] : []));
	at("dropped").hidden = s.drops.length === 0;
	table("drops", ["reason", "#sessions", "#bytes", "what it means"],
		s.drops.map((d) => [d.Reason, number(d.Sessions), number(d.Bytes), d.Meaning]));
	const ours = t.protocol.answers_by_status, theirs = t.protocol.production.answers_by_status;
	const classes = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].sort();
	at("statuses").hidden = classes.length === 0;
	table("statuses-table", ["status", "#production", "#target"],
		classes.map((c) => [c, of(theirs, c), of(ours, c)]));
}

/** Shows who is there. */
function showHosts(/** @type {State} */ s, /** @type {Report} */ t) {
	table("targets", ["target", "state", "#open", "#accepted", "#failed"],
		t.targets.map((x) => [x.target, x.state, number(x.live), number(x.opened), number(x.failed)]));
	table("peers", ["name", "kind", "state", "error"], [
		...t.links.map((x) => [x.intercept, "link", x.up ? "up" : "down", x.error || ""]),
		...(t.agents || []).map((x) => [x.name, "agent", x.up ? "connected" : "gone", x.error || ""]),
		...s.nodes.map((n) => [n.name, n.kind, n.error ? "gone" : "up", n.error || ""]),
	]);
}

/** Shows seconds as hours, minutes and seconds. */
function span(/** @type {number} */ s) {
	const parts = [[Math.floor(s / 3600), "h"], [Math.floor(s / 60) % 60, "min"], [Math.floor(s) % 60, "s"]];
	return parts.filter(([n], i) => n || i === 2).map(([n, unit]) => n + " " + unit).join(" ");
}

function show(/** @type {State} */ s) {
	const t = s.total;
	const there = s.nodes.filter((n) => !n.error).length;
	let text = s.nodes.length > 1 ? there + " of " + s.nodes.length + " nodes answer" :
		there ? "live" : "does not answer";
	if (t) text += " · for " + span(t.seconds) + " · state " + t.sequence + (t.final ? " · ended" : "");
	at("state").textContent = text;
	at("state").classList.remove("lost");
	if (!t) return;
	at("what").textContent = t.mappings.join(", ");
	document.title = "tcpcopy: " + t.mappings.join(", ");
	showFindings(t.findings || []);
	showScore(t);
	showCompared(s, t);
	showNumbers(t);
	showAccount(s, t);
	showHosts(s, t);
	if (s.last) add(s.last, false);
}

function connect() {
	const events = new EventSource("events");
	events.addEventListener("open", async () => {
		const answer = await fetch("course");
		if (answer.ok && answer.status === 200) add(await answer.json(), true);
	});
	events.addEventListener("state", (e) => show(JSON.parse(e.data)));
	events.addEventListener("error", () => {
		at("state").textContent = "no connection: trying again";
		at("state").classList.add("lost");
	});
}

watchSessions();
connect();
