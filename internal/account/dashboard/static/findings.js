// What the check at the start has found, and what the copy shows now.
import { at } from "./table.js";

let shown = "";

/** @param {Finding[]} all */
export function showFindings(all) {
	const text = JSON.stringify(all);
	if (text === shown) return; // what is open stays open
	shown = text;
	at("findings").hidden = all.length === 0;
	at("findings-list").replaceChildren(...all.map(item));
}

/** @param {Finding} f */
function item(f) {
	const li = document.createElement("li");
	if (f.code) li.append(Object.assign(document.createElement("strong"), { textContent: f.code }), " ");
	li.append(f.text);
	for (const command of f.fix || []) {
		li.append(Object.assign(document.createElement("pre"), { textContent: command }));
	}
	if (f.code) li.append(explanation(f.code));
	return li;
}

/** What tcpcopy explain says, fetched when it is opened. @param {string} code */
function explanation(code) {
	const box = document.createElement("details");
	const text = document.createElement("pre");
	box.append(Object.assign(document.createElement("summary"), { textContent: "what that is (tcpcopy explain " + code + ")" }), text);
	box.addEventListener("toggle", async () => {
		if (!box.open || text.textContent) return;
		try {
			const answer = await fetch("explain?code=" + encodeURIComponent(code));
			text.textContent = answer.ok ? await answer.text() : "tcpcopy explain " + code + " says more.";
		} catch {
			box.open = false; // no connection: opening it again asks again
		}
	});
	return box;
}
