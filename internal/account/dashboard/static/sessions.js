// The sessions of the moment: the first of them in some order. They are asked for only while they
// can be seen, since the copier looks through all of them.
import { at, number, table } from "./table.js";

const every = 2000; // milliseconds
const order = /** @type {HTMLSelectElement} */ (at("sessions-order"));
const filter = /** @type {HTMLInputElement} */ (at("sessions-filter"));
const count = at("sessions-count");

let visible = false;
let timer = 0;
let asked = 0; // how often; an answer to another question than the last is left out

const seconds = (/** @type {number} */ s) => s <= 0 ? "–" : s < 1 ? (1000 * s).toFixed(s < .1 ? 1 : 0) + " ms" :
	s < 100 ? s.toFixed(1) + " s" : number(Math.round(s)) + " s";

async function ask() {
	clearTimeout(timer);
	const mine = ++asked;
	const words = new URLSearchParams({ order: order.value, filter: filter.value });
	try {
		const answer = await fetch("sessions?" + words);
		if (mine !== asked) return;
		filter.setAttribute("aria-invalid", String(answer.status === 400));
		if (answer.ok) show(await answer.json());
		else count.textContent = await answer.text();
	} catch {
		if (mine === asked) count.textContent = "no connection: trying again";
	}
	if (mine === asked && visible && !document.hidden) timer = setTimeout(ask, every);
}

/** @param {Sessions} s */
function show(s) {
	let text = number(s.live) + " live, " + number(s.matched) + " match, " + number(s.sessions.length) + " shown";
	if (s.looked_at < s.live) text += "; " + number(s.looked_at) + " were looked at";
	if (s.missing) text += "; copiers that do not answer: " + number(s.missing);
	if (count.textContent !== text) count.textContent = text;
	const nodes = s.sessions.some((x) => x.node);
	const copies = s.sessions.some((x) => x.copy > 1);
	const names = ["client", "target", "phase", "waits for", "#since", "#lag", "#bytes held", "no copy because",
		...(copies ? ["#copy"] : []), ...(nodes ? ["node"] : [])];
	table("sessions", names, s.sessions.map((x) => [x.client, x.target || "–", x.phase, x.waits_for,
		seconds(x.waited_seconds), seconds(x.lag_seconds), number(x.held_bytes), x.no_copy || "",
		...(copies ? [number(x.copy)] : []), ...(nodes ? [x.node || ""] : [])]));
}

function soon() {
	clearTimeout(timer);
	asked++;
	timer = setTimeout(ask, 250);
}

export function watchSessions() {
	at("sessions-form").addEventListener("submit", (e) => e.preventDefault());
	order.addEventListener("change", ask);
	filter.addEventListener("input", soon);
	document.addEventListener("visibilitychange", () => { if (visible && !document.hidden) ask(); });
	new IntersectionObserver((all) => {
		const was = visible;
		visible = all[all.length - 1].isIntersecting;
		if (visible && !was) ask();
	}).observe(at("now"));
}
