package doctor

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// address matches what may be an IP address, with the length of a network's prefix if there is one.
var address = regexp.MustCompile(`[0-9A-Fa-f:.]*[0-9A-Fa-f:][0-9A-Fa-f:.]*(?:/\d+)?`)

// Scrub replaces the IP addresses in a text by hashes, which are the same wherever the same address
// occurs under the same salt. It keeps those in keep, loopback and unspecified addresses, and
// networks.
func Scrub(text string, keep []netip.Addr, salt []byte) string {
	return address.ReplaceAllStringFunc(text, func(word string) string {
		if strings.Contains(word, "/") && !strings.HasSuffix(word, "/32") &&
			!strings.HasSuffix(word, "/128") {
			return word
		}
		bare, bits, _ := strings.Cut(word, "/")
		a, port, ok := splitAddress(bare)
		if !ok || a.IsLoopback() || a.IsUnspecified() || slices.Contains(keep, a.Unmap()) {
			return word
		}
		sum := sha256.Sum256(append(slices.Clone(salt), a.Unmap().String()...))
		hash := "address-" + hex.EncodeToString(sum[:4]) + port
		if bits != "" {
			hash += "/" + bits
		}
		return hash
	})
}

// splitAddress reads an address, perhaps with a colon and a port behind it, or a full stop.
func splitAddress(word string) (a netip.Addr, rest string, ok bool) {
	trimmed := strings.TrimRight(word, ".:")
	tail := word[len(trimmed):]
	if a, err := netip.ParseAddr(word); err == nil {
		return a, "", true
	}
	if a, err := netip.ParseAddr(trimmed); err == nil {
		return a, tail, true
	}
	if ap, err := netip.ParseAddrPort(trimmed); err == nil {
		return ap.Addr(), trimmed[strings.LastIndexByte(trimmed, ':'):] + tail, true
	}
	return netip.Addr{}, "", false
}

// OwnAddresses returns the addresses that a report needs: those of the production side, the targets
// and the intercepts, and of their routes.
func (f *Facts) OwnAddresses() (all []netip.Addr) {
	for _, m := range f.Mappings {
		all = append(all, m.Production.Addr())
	}
	for _, t := range f.Targets {
		all = append(all, t.Addr.Addr(), t.Route.Gateway, t.Route.Source)
	}
	for _, l := range f.Links {
		all = append(all, l.Addr.Addr())
	}
	for _, p := range f.ReturnRoutes {
		all = append(all, p.Assistant, p.Route.Gateway, p.Route.Source)
	}
	for _, p := range f.PassedOn {
		all = append(all, p.To.Addr())
	}
	if f.Census != nil {
		for _, w := range f.Census.Flows {
			if w.Local && !w.FromServer {
				all = append(all, w.Server.Addr())
			}
		}
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !a.IsValid() })
}
