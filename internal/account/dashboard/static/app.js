// The page of a fleet: it shows what the server sends each second, and computes nothing of its own
// but where a point lies. All that comes from nodes is set as text.
/* global uPlot */

/** @param {string} id */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const css = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (/** @type {number} */ n) => n.toLocaleString("en");
const column = (/** @type {string} */ text) => text === "" ? [] : text.split(" ").map((w) => w === "-" ? null : Number(w));

/** The plots: a title, a unit, and for each line its column of the course, its name, its color. */
const plots = [
	["Requests a second", "/s", [["production_answers_per_second", "production's answers", "--production"],
		["turns_per_second", "turns to the target", "--target"]]],
	["Connections open at the same time", "", [["production_open", "production", "--production"],
		["target_open", "target", "--target"]]],
	["Answer time, median", " ms", [["production_median_ms", "production", "--production"],
		["target_median_ms", "target", "--target"]]],
	["Answer time, 99 %", " ms", [["production_p99_ms", "production", "--production"],
		["target_p99_ms", "target", "--target"]]],
	["Lag, 99 %", " ms", [["behind_p99_ms", "target", "--target"]]],
	["Sessions a second", "/s", [["sessions_per_second", "captured", "--production"],
		["sessions_dropped_per_second", "dropped", "--bad"]]],
];

/** @type {Record<string, (number|null)[]>} the course so far, column by column */
let course = {};
/** @type {any[]} */
let charts = [];
const maxPoints = 1200;

function draw() {
	at("charts").replaceChildren();
	charts = plots.map(([title, unit, lines]) => {
		const box = document.createElement("div");
		box.className = "chart";
		box.setAttribute("role", "img");
		box.setAttribute("aria-label", /** @type {string} */ (title));
		const head = document.createElement("h3");
		head.textContent = /** @type {string} */ (title);
		box.append(head);
		at("charts").append(box);
		const axis = { stroke: css("--soft"), grid: { stroke: css("--rule"), width: 1 }, ticks: { stroke: css("--rule") } };
		const plot = new uPlot({
			width: box.clientWidth, height: 180, legend: { live: false }, cursor: { drag: { x: false, y: false } },
			scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(high || 0, 1) * 1.1] } },
			axes: [{ ...axis, values: (_, all) => all.map((s) => s + " s") },
				{ ...axis, size: 64, values: (_, all) => all.map((v) => v + unit) }],
			series: [{ label: "after", value: (_, s) => s == null ? "" : s.toFixed(0) + " s" },
				...lines.map(([, name, color]) => ({
					label: name, stroke: css(color), width: 1.75, points: { show: false },
					value: (_, v) => v == null ? "–" : v + unit,
				}))],
		}, data(lines), box);
		return { plot, box, lines, title };
	});
}

const data = (lines) => [course.at_seconds || [], ...lines.map(([name]) => course[name] || [])];

function replot() {
	for (const c of charts) {
		c.plot.setData(data(c.lines));
		const last = c.lines.map(([name, label]) => label + " " + (course[name] || []).at(-1));
		c.box.setAttribute("aria-label", c.title + ": " + last.join(", "));
	}
}

/** Takes a course as a report has it: the whole of it, or its last row. */
function add(/** @type {Record<string, string>} */ rows, /** @type {boolean} */ whole) {
	const fresh = Object.fromEntries(Object.entries(rows).map(([name, text]) => [name, column(text)]));
	if (whole) course = fresh;
	else if (fresh.at_seconds.at(-1) !== (course.at_seconds || []).at(-1)) {
		for (const [name, values] of Object.entries(fresh)) {
			course[name] = [...(course[name] || []), ...values].slice(-maxPoints);
		}
	}
	replot();
}

/** Fills a table: names of columns (numeric ones begin with #), and rows of text. */
function table(/** @type {string} */ id, /** @type {string[]} */ names, /** @type {string[][]} */ rows) {
	const cell = (kind, text, name) => {
		const c = document.createElement(kind);
		c.textContent = text;
		if (name.startsWith("#")) c.className = "n";
		return c;
	};
	const head = document.createElement("tr");
	for (const name of names) {
		const c = cell("th", name.replace("#", ""), name);
		c.scope = "col";
		head.append(c);
	}
	at(id).replaceChildren(head, ...rows.map((row) => {
		const line = document.createElement("tr");
		row.forEach((text, i) => {
			const c = cell(i ? "td" : "th", text, names[i]);
			if (!i) c.scope = "row";
			if (text === "out" || text === "down" || text === "gone") c.classList.add("bad");
			line.append(c);
		});
		return line;
	}));
}

function show(/** @type {any} */ s) {
	const t = s.total;
	at("state").textContent = s.nodes.filter((n) => !n.error).length + " of " + s.nodes.length + " nodes answer";
	at("state").classList.remove("lost");
	if (!t) return;
	at("state").textContent += " · state " + t.sequence + (t.final ? " · ended" : "");
	at("what").textContent = t.mappings.join(", ");
	document.title = "tcpcopy: " + t.mappings.join(", ");
	const score = t.fidelity && t.fidelity.value;
	at("score").textContent = score == null ? "–" : (Math.floor(score * 10) / 10).toFixed(1);
	at("score").className = score >= 99 ? "good" : "bad";
	at("verdict").textContent = t.fidelity ? t.fidelity.verdict : "";
	const dropped = Object.values(t.sessions.dropped).reduce((a, b) => a + b, 0);
	at("numbers").replaceChildren(...[
		["sessions captured", t.sessions.captured], ["delivered", t.sessions.delivered],
		["in flight", t.sessions.in_flight], ["dropped", dropped], ["turns", t.gate.turns],
		["open at production", t.open_connections], ["lost in the kernel", t.packets.kernel_drop],
	].map(([name, n]) => {
		const box = document.createElement("div");
		box.append(Object.assign(document.createElement("dt"), { textContent: name }),
			Object.assign(document.createElement("dd"), { textContent: number(n), id: "n-" + name.replaceAll(" ", "-") }));
		return box;
	}));
	const flow = new DOMParser().parseFromString(s.flow.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '), "image/svg+xml").documentElement;
	at("flow").replaceChildren(...(s.flow ? [document.importNode(flow, true)] : []));
	table("drops", ["reason", "#sessions", "#bytes", "what it means"],
		s.drops.map((d) => [d.Reason, number(d.Sessions), number(d.Bytes), d.Meaning]));
	table("targets", ["target", "state", "#open", "#accepted", "#failed"],
		t.targets.map((x) => [x.target, x.state, number(x.live), number(x.opened), number(x.failed)]));
	table("peers", ["name", "kind", "state", "error"], [
		...t.links.map((x) => [x.intercept, "link", x.up ? "up" : "down", x.error || ""]),
		...(t.agents || []).map((x) => [x.name, "agent", x.up ? "connected" : "gone", x.error || ""]),
		...s.nodes.map((n) => [n.name, n.kind, n.error ? "gone" : "up", n.error || ""]),
	]);
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

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
let width = 0;
new ResizeObserver(() => {
	if (at("charts").clientWidth === width) return;
	width = at("charts").clientWidth;
	for (const c of charts) c.plot.setSize({ width: c.box.clientWidth, height: 180 });
}).observe(at("charts"));
draw();
connect();
