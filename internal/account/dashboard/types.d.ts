// What the page gets from the server, for the type check of its scripts (make observe).
// TestTypesOfThePage holds it against what is sent.

interface State {
	nodes: { name: string; kind: string; error?: string }[];
	total: Report | null;
	flow: string;
	drops: { Reason: string; Meaning: string; Sessions: number; Bytes: number; Requests: number; OnRequest: boolean }[];
	last?: Course;
	more_cells?: number;
}

type Counts = Record<string, number>;
type Course = Record<string, string>;

interface Finding { code?: string; text: string; fix?: string[] }

interface Report {
	sequence: number;
	seconds: number;
	final: boolean;
	mappings: string[];
	open_connections: number;
	sessions: { captured: number; delivered: number; in_flight: number; dropped: Counts };
	packets: { kernel_drop: number };
	gate: { turns: number };
	protocol: { answers_by_status: Counts; production: { answers_by_status: Counts } };
	targets: { target: string; state: string; live: number; opened: number; failed: number }[];
	links: { intercept: string; up: boolean; error?: string }[];
	agents?: { name: string; up: boolean; error?: string }[];
	fidelity: { value: number | null; verdict: string } | null;
	findings?: Finding[];
	compare?: {
		verdict: string; why: string[]; answers_due: number; compared: number;
		cells: {
			endpoint: string; path: string; kind: string; production: string; target: string; sessions: number;
			proven: boolean; recognised?: string;
		}[];
	};
}

interface Sessions {
	live: number;
	looked_at: number;
	matched: number;
	missing?: number;
	sessions: {
		client: string; production: string; target?: string; copy: number; phase: string; waits_for: string;
		waited_seconds: number; lag_seconds: number; held_bytes: number; waiting_bytes: number;
		no_copy?: string; node?: string;
	}[];
}

interface Uplot {
	setData(data: unknown[]): void;
	setSize(size: { width: number; height: number }): void;
}
declare const uPlot: new (options: object, data: unknown[], box: HTMLElement) => Uplot;
