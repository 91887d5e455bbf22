// What all parts of the page use: elements by their id, and tables.

/** @param {string} id */
export const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export const number = (/** @type {number} */ n) => n.toLocaleString("en");

/** Words that say that something is not there. */
const bad = new Set(["out", "down", "gone"]);

/**
 * Fills a table: names of columns (numeric ones begin with #), and rows of text. A row that is there
 * already is changed and not replaced, so that a selection in it stays.
 * @param {string} id @param {string[]} names @param {string[][]} rows
 */
export function table(id, names, rows) {
	const place = at(id);
	const lines = place.querySelectorAll("tr");
	fill(lines[0] || place.appendChild(document.createElement("tr")), names.map((n) => n.replace("#", "")), names, true);
	rows.forEach((row, i) => fill(lines[i + 1] || place.appendChild(document.createElement("tr")), row, names, false));
	for (let i = lines.length - 1; i > rows.length; i--) lines[i].remove();
}

/** @param {HTMLTableRowElement} line @param {string[]} row @param {string[]} names @param {boolean} head */
function fill(line, row, names, head) {
	while (line.cells.length > row.length) line.deleteCell(-1);
	row.forEach((text, i) => {
		let cell = line.cells[i];
		if (!cell) {
			cell = document.createElement(head || i === 0 ? "th" : "td");
			cell.setAttribute("scope", head ? "col" : "row");
			if (!head && i > 0) cell.removeAttribute("scope");
			line.append(cell);
		}
		if (cell.textContent !== text) cell.textContent = text;
		cell.className = (names[i].startsWith("#") ? "n" : "") + (!head && bad.has(text) ? " bad" : "");
	});
}
