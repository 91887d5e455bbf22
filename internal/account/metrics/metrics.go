// Package metrics makes Prometheus metrics of snapshots. It keeps no counters of its own: each
// scrape is one snapshot, so what it says equals the JSON report with the same sequence number.
//
// Names begin with tcpcopy_, units are seconds and bytes, and counters end in _total. No label
// holds a client, a path or a user, so the number of series depends on the settings, not on the
// traffic.
package metrics

import (
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"tcpcopy/internal/account/export"
)

// Source is a snapshot of one kind of node: *Copier, *Intercept, *Agent or *Recorder.
type Source interface {
	// collect adds the snapshot's samples to set.
	collect(set *set)
}

// Node is what every kind of node has.
type Node struct {
	Version    string
	Start, Now time.Time
	Sequence   uint64
	Resources  export.Resources
}

// family is a metric with its help and the names of its labels.
type family struct {
	name   string
	help   string
	kind   dto.MetricType
	labels []string
}

func counter(name, help string, labels ...string) *family {
	return newFamily(name, help, dto.MetricType_COUNTER, labels)
}

func gauge(name, help string, labels ...string) *family {
	return newFamily(name, help, dto.MetricType_GAUGE, labels)
}

// timing returns a family of histograms.
func timing(name, help string, labels ...string) *family {
	return newFamily(name, help, dto.MetricType_HISTOGRAM, labels)
}

func newFamily(name, help string, kind dto.MetricType, labels []string) *family {
	return &family{"tcpcopy_" + name, help, kind, labels}
}

// set collects the samples of one scrape. A registry of Prometheus' library would check them, and
// cost twice as much; tests do that instead.
type set struct{ families map[*family]*dto.MetricFamily }

// add returns a new sample of f with the values of its labels.
func (s *set) add(f *family, values []string) *dto.Metric {
	m := &dto.Metric{}
	for i, v := range values {
		v = strings.ToValidUTF8(v, "?")
		m.Label = append(m.Label, &dto.LabelPair{Name: &f.labels[i], Value: &v})
	}
	of := s.families[f]
	if of == nil {
		of = &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind}
		s.families[f] = of
	}
	of.Metric = append(of.Metric, m)
	return m
}

func (s *set) put(f *family, value float64, labels ...string) {
	if m := s.add(f, labels); f.kind == dto.MetricType_COUNTER {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = &dto.Gauge{Value: &value}
	}
}

func (s *set) count(f *family, n uint64, labels ...string) { s.put(f, float64(n), labels...) }

var (
	buildInfo = gauge("build_info",
		"The version of tcpcopy, and of Go; always 1.", "kind", "version", "goversion")
	startTime = gauge("start_time_seconds", "When the node began, in seconds since 1970.")
	uptime    = gauge("uptime_seconds", "For how long the node has run.")
	sequence  = gauge("snapshot_sequence", "The number of the state that this scrape shows.")
	cpu       = counter("process_cpu_seconds_total",
		"Processor time that the process has used, user and system.")
	memory = gauge("process_resident_memory_max_bytes",
		"The most memory that the process has had.")
)

func (s *set) node(kind string, n *Node) {
	s.put(buildInfo, 1, kind, n.Version, runtime.Version())
	s.put(startTime, float64(n.Start.UnixMilli())/1e3)
	s.put(uptime, n.Now.Sub(n.Start).Seconds())
	s.count(sequence, n.Sequence)
	s.put(cpu, n.Resources.CPU.Seconds())
	s.count(memory, n.Resources.MaxRSS)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Gatherer returns the metrics of one snapshot, by name.
func Gatherer(source Source) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		s := &set{map[*family]*dto.MetricFamily{}}
		source.collect(s)
		return slices.SortedFunc(maps.Values(s.families), func(a, b *dto.MetricFamily) int {
			return strings.Compare(a.GetName(), b.GetName())
		}), nil
	})
}

// Handler serves what get returns at each scrape; nil is an error for who scrapes.
func Handler(get func() Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := get()
		if s == nil {
			http.Error(
				w,
				"no state: the node is starting, ending or too busy",
				http.StatusServiceUnavailable,
			)
			return
		}
		promhttp.HandlerFor(Gatherer(s), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}
