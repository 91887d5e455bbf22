package doctor

var downCheck = Check{
	Code: "TC0102", Area: Capture, Quick: true,
	Title: "the interface to capture on is down",
	Roles: []Role{Copier, Assistant},
	How:   "It asks the kernel for the state of the interfaces that -i names.",
	Why:   "An interface that is down, or has no carrier, receives no packet.",
	Mend:  "Bring the interface up, or name another one with -i.",
	Judge: func(f *Facts) (all []Result) {
		for _, name := range f.CaptureOn {
			i, known := f.device(name)
			switch {
			case !known:
				all = append(all, unknown(name, "the interface is not listed"))
			case i.Up:
				all = append(all, ok(name, "%s is up", name))
			default:
				all = append(all, found(name, "%s is down", name).fix("ip link set "+name+" up"))
			}
		}
		return all
	},
}
