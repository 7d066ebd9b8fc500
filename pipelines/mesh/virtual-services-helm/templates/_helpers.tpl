{{/*
The routes of one entry in one namespace, the longest prefix first: Istio takes the first that matches, and drops
everything after a match of `/`. Takes {entry, namespace, domain}.
*/}}
{{- define "virtual-services.http" -}}
{{- $keys := list }}
{{- range .entry.prefixes | default (list "/") }}
{{- $keys = append $keys (printf "%05d %s" (sub 99999 (len .)) .) }}
{{- end }}
{{- range $keys | uniq | sortAlpha }}
- match:
    - uri:
        prefix: {{ substr 6 -1 . | quote }}
  route:
    - destination:
        # in full: a short name would be looked up in this object's own namespace
        host: {{ printf "%s.%s.svc.%s" $.entry.name $.namespace.name $.domain }}
        port:
          number: {{ int $.entry.port }}
{{- end }}
{{- end }}

{{/*
What no schema can say. Istio accepts all of this, and then serves something else than what was written:
the same host and prefix twice (the older object wins), overlapping prefixes of one host in two entries (their order is
the objects' age), one name inside the mesh in two objects (only one counts), and cut-off cluster names.
*/}}
{{- define "virtual-services.check" -}}
{{- $domain := .Values.clusterDomain }}
{{- $names := dict }}
{{- $hosts := dict }}
{{- range $entry := .Values.virtualServices }}
{{- range $namespace := $entry.namespaces }}
{{- $where := printf "%s in namespace %s" $entry.virtualName $namespace.name }}
{{- $object := printf "%s-%s" $entry.virtualName $namespace.name }}
{{- if hasKey $names $object }}
{{- fail (printf "%s: %s already uses the name %s; give one of them another virtualName" $where (get $names $object) $object) }}
{{- end }}
{{- $_ := set $names $object $where }}
{{- range $host := $namespace.hosts }}
{{- if or (hasSuffix ".svc" $host) (and (hasSuffix ".cluster.local" $host) (not (hasSuffix (printf ".svc.%s" $domain) $host))) }}
{{- fail (printf "%s: host %s is cut off; write %s.%s.svc.%s in full" $where $host $entry.name $namespace.name $domain) }}
{{- end }}
{{- $seen := get $hosts $host | default dict }}
{{- if and $seen (hasSuffix (printf ".svc.%s" $domain) $host) }}
{{- fail (printf "%s: %s already routes the internal host %s; inside the mesh a host can be routed by one entry only" $where (first (values $seen)) $host) }}
{{- end }}
{{- range $prefix := $entry.prefixes | default (list "/") }}
{{- range $other, $owner := $seen }}
{{- if ne $owner $where }}
{{- if eq $other $prefix }}
{{- fail (printf "%s: %s already routes host %s with prefix %s; remove one of the two" $where $owner $host $prefix) }}
{{- else if and (ne $other "/") (ne $prefix "/") (or (hasPrefix $other $prefix) (hasPrefix $prefix $other)) }}
{{- fail (printf "%s: prefix %s of host %s overlaps with %s of %s, and Istio would try the older one first; put both into one entry or use prefixes that differ" $where $prefix $host $other $owner) }}
{{- end }}
{{- end }}
{{- end }}
{{- $_ := set $seen $prefix $where }}
{{- end }}
{{- $_ := set $hosts $host $seen }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "virtual-services.labels" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/part-of: {{ .root.Chart.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}
