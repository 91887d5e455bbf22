// Production beside the target over time.
import { at, number } from "./table.js";

const css = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** @typedef {[column: string, name: string, color: string]} Line */
/** @typedef {{title: string, unit: string, lines: Line[], answers?: boolean}} Plot answers: of production's answers, which may not be read */

const unread = "Answers are read of protocols that are known, production's with --both.";

/** @type {Plot[]} */
const plots = [
	{ title: "Requests a second", unit: "/s", lines: [["production_answers_per_second", "production's answers", "--production"],
		["turns_per_second", "turns to the target", "--target"]], answers: true },
	{ title: "Connections open at the same time", unit: "", lines: [["production_open", "production", "--production"],
		["target_open", "target", "--target"]] },
	{ title: "Answer time, median", unit: " ms", lines: [["production_median_ms", "production", "--production"],
		["target_median_ms", "target", "--target"]], answers: true },
	{ title: "Answer time, 99 %", unit: " ms", lines: [["production_p99_ms", "production", "--production"],
		["target_p99_ms", "target", "--target"]], answers: true },
	{ title: "Lag, 99 %", unit: " ms", lines: [["behind_p99_ms", "target", "--target"]] },
	{ title: "Sessions a second", unit: "/s", lines: [["sessions_per_second", "captured", "--production"],
		["sessions_dropped_per_second", "dropped", "--bad"]] },
];

/** @type {Record<string, (number|null)[]>} the course so far, column by column */
let course = {};
/** @type {{plot: Uplot, box: HTMLElement, note: HTMLElement, of: Plot}[]} */
let charts = [];
const maxPoints = 1200;
const height = 180;

const data = (/** @type {Plot} */ of) => [course.at_seconds || [], ...of.lines.map(([name]) => course[name] || [])];

/** Shows three digits of a value with its unit. @param {number} v @param {string} unit */
function amount(v, unit) {
	if (unit === " ms" && v >= 1000) return amount(v / 1000, " s");
	return number(Number(v.toPrecision(3))) + unit;
}

/**
 * Returns the text of a column for the legend: where the cursor is, or of the newest interval.
 * @param {string} column @param {(value: number) => string} format
 */
const legend = (column, format) => (/** @type {unknown} */ _, /** @type {number|null} */ value, /** @type {number} */ __, /** @type {number|null} */ index) => {
	const v = index === null ? (course[column] || []).at(-1) : value;
	return v === null || v === undefined ? "–" : format(v);
};

/** @param {Plot} of */
function draw(of) {
	const box = document.createElement("div");
	box.className = "chart";
	box.setAttribute("role", "img");
	box.append(Object.assign(document.createElement("h3"), { textContent: of.title }));
	at("charts").append(box);
	const axis = { stroke: css("--soft"), grid: { stroke: css("--rule"), width: 1 }, ticks: { stroke: css("--rule") } };
	const plot = new uPlot({
		width: box.clientWidth, height, cursor: { drag: { x: false, y: false } },
		scales: { x: { time: false }, y: { range: (/** @type {unknown} */ _, /** @type {number} */ low, /** @type {number} */ high) => [0, Math.max(high || 0, 1) * 1.1] } },
		axes: [{ ...axis, values: (/** @type {unknown} */ _, /** @type {number[]} */ all) => all.map((s) => s + " s") },
			{ ...axis, size: 64, values: (/** @type {unknown} */ _, /** @type {number[]} */ all) => all.map((v) => amount(v, of.unit)) }],
		series: [{ label: "after", value: legend("at_seconds", (s) => s.toFixed(0) + " s") },
			...of.lines.map(([column, name, color], i) => ({
				// What lies below is wider, so that it is seen where both are the same.
				label: name, stroke: css(color), width: i + 1 < of.lines.length ? 4 : 1.75, points: { show: false },
				value: legend(column, (v) => amount(v, of.unit)),
			}))],
	}, data(of), box);
	const note = Object.assign(document.createElement("p"), { className: "soft note", textContent: unread });
	box.append(note);
	return { plot, box, note, of };
}

function redraw() {
	at("charts").replaceChildren();
	charts = plots.map(draw);
	refresh();
}

function refresh() {
	for (const c of charts) {
		c.plot.setData(data(c.of));
		c.note.hidden = !c.of.answers || (course[c.of.lines[0][0]] || []).some((v) => v !== null);
		const last = c.of.lines.map(([name, label]) => label + " " + ((course[name] || []).at(-1) ?? "none"));
		c.box.setAttribute("aria-label", c.of.title + ": " + last.join(", "));
	}
}

const column = (/** @type {string} */ text) => text === "" ? [] : text.split(" ").map((w) => w === "-" ? null : Number(w));

/**
 * Takes a course as a report has it: the whole of it, or its last row.
 * @param {Course} rows @param {boolean} whole
 */
export function add(rows, whole) {
	const fresh = Object.fromEntries(Object.entries(rows).map(([name, text]) => [name, column(text)]));
	if (whole) course = fresh;
	else if (fresh.at_seconds.at(-1) !== (course.at_seconds || []).at(-1)) {
		for (const [name, values] of Object.entries(fresh)) {
			course[name] = [...(course[name] || []), ...values].slice(-maxPoints);
		}
	}
	refresh();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = 0;
new ResizeObserver(() => {
	if (at("charts").clientWidth === width) return;
	width = at("charts").clientWidth;
	for (const c of charts) c.plot.setSize({ width: c.box.clientWidth, height });
}).observe(at("charts"));
redraw();
