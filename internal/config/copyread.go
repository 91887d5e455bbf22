package config

import (
	"slices"
	"strconv"
	"strings"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way/ways"
)

func (o *CopyOptions) setMap(s string) error {
	all := append(o.maps, s)
	ms, err := mapping.Parse(strings.Join(all, ","))
	if err != nil {
		return quoting(err)
	}
	o.maps, o.c.Mappings = all, ms
	return nil
}

func (o *CopyOptions) setVia(s string) error {
	names := ways.Names()
	if slices.Contains(names, s) {
		o.via = s
		return nil
	}
	last := len(names) - 1
	return wanted("wanted %s or %s", strings.Join(names[:last], ", "), names[last])
}

func (o *CopyOptions) setIntercept(s string) error {
	parts, err := list(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, _, err := endpoint(p); err != nil {
			return err
		}
	}
	o.intercepts = append(o.intercepts, parts...)
	return nil
}

func (o *CopyOptions) setInterface(s string) error {
	if files, err := captureFiles(s); err != nil || len(files) > 0 {
		o.files = append(o.files, files...)
		return err
	}
	names, err := o.host.devices(s, true)
	if err != nil {
		return err
	}
	o.c.Interfaces = append(o.c.Interfaces, names...)
	return nil
}

func (o *CopyOptions) setOutputDevice(s string) error {
	names, err := o.host.devices(s, false)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return wanted("wanted one device")
	}
	o.c.OutputDevice = names[0]
	return nil
}

func setFilter(dst *filter.Expr) func(string) error {
	return func(s string) error {
		if strings.TrimSpace(s) == "" {
			return wanted("is empty: wanted an expression such as 'tcp and port 80'")
		}
		e, err := filter.Parse(s)
		if err == nil {
			// it must be short enough for the kernel
			_, err = filter.CompileExpr(e, filter.Options{})
		}
		if err != nil {
			return quoting(err)
		}
		*dst = e
		return nil
	}
}

func (o *CopyOptions) setClients(s string) error {
	p, err := mapping.ParsePool(s)
	if err != nil {
		return quoting(err)
	}
	o.c.Clients = &p
	return nil
}

func (o *CopyOptions) setLocalhostAs(s string) error {
	a, err := address(s)
	if err != nil {
		return err
	}
	if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
		return wanted("cannot be a client's address on the network: wanted one that the target " +
			"can route answers to")
	}
	o.c.LocalhostAs = a
	return nil
}

func (o *CopyOptions) setProxyProtocol(s string) error {
	switch s {
	case "v1":
		o.c.ProxyProtocol = 1
	case "v2":
		o.c.ProxyProtocol = 2
	default:
		return wanted("wanted v1 (text) or v2 (binary)")
	}
	return nil
}

func (o *CopyOptions) setBind(s string) error {
	parts, err := list(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		some, err := addresses(p, maxBind-len(o.c.Bind))
		if err != nil {
			return err
		}
		for _, a := range some {
			if a.IsUnspecified() || a.IsMulticast() {
				return wanted("cannot be connected from: wanted addresses of this host")
			}
			if !o.host.local(a) {
				p := wanted("%s is not an address of this host: wanted one that is", a).
					hinting("ip address lists them; ip route add local NET dev lo adds all " +
						"addresses of a network")
				p.Value = asIs
				return p
			}
		}
		o.c.Bind = append(o.c.Bind, some...)
	}
	return nil
}

// maxBind bounds the addresses of --bind: they suffice for a hundred million connections to one
// target.
const maxBind = 4096

func (o *CopyOptions) setMark(s string) error {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n == 0 {
		return wanted("wanted a number from 1 to 0xffffffff: 0 is the mark of all other packets")
	}
	o.c.Mark = uint32(n)
	return nil
}

func setSnaplen(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return wanted("wanted a whole number, 65535 or more")
	}
	if n < 65535 {
		return wanted("a packet that was cut cannot be copied: wanted 65535 or more").
			hinting("leave -S out: packets are captured whole")
	}
	return nil
}
