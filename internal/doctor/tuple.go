package doctor

var tupleCheck = Check{
	Code: "TC0216", Area: Forward,
	Title: "clients' addresses and ports are in use at the target",
	Roles: []Role{Copier},
	How: "It asks the copiers that run beside it, with one of the same mappings, how many " +
		"sessions they dropped with the reason tuple_taken.",
	Why: "Two connections to one server cannot have the same two ends. Another copier " +
		"copies the same clients to the same target, or the clients themselves use it.",
	Mend: "Stop the other copier. Or have one of them send from other addresses, with -c, " +
		"or from other ports, with --port-shift.",
	Judge: func(f *Facts) []Result {
		return f.whileRunning("tuple_taken", "")
	},
}

// whileRunning judges a reason by the account of the copiers that run. more is appended to what was
// seen.
func (f *Facts) whileRunning(reason, more string) []Result {
	r := f.Running
	if r == nil || r.Sessions == 0 {
		return nil
	}
	n, many := r.share(reason)
	if !many {
		return []Result{ok("", "%d of %d sessions", n, r.Sessions)}
	}
	return []Result{found("", "%d of %d sessions were dropped: %s%s", n, r.Sessions, reason, more)}
}
