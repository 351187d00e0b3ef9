{{/*
What no schema can see, since it stands in two places. `berth validate` says the same in the same words, and more: whatever
needs quantities, or berth's own rules.
*/}}
{{- define "berth.checkAll" -}}
{{- $taken := dict }}
{{- range $name, $vm := .vmlist }}
{{- if $vm.enabled }}
{{- $net := $vm.netconfig | default dict }}
{{- $service := $net.service | default dict }}
{{- $key := printf "vmlist.%s" $name }}
{{- if and (eq $name "net") (not (hasKey $vm "single" | ternary $vm.single $.single)) }}
{{- fail (printf "%s: the container of the network is called net too: take another name, or single: true" $key) }}
{{- end }}
{{- include "berth.checkPorts" (dict "key" (printf "%s.netconfig" $key) "net" $net "service" $service) }}
{{- if $service.enabled }}
{{- range $port, $number := $service.nodePorts }}
{{- $place := printf "%d/%s" (int64 $number) (include "berth.protocol" (dict "net" $net "port" $port)) }}
{{- if hasKey $taken $place }}
{{- fail (printf "%s.netconfig.service.nodePorts.%s: %s of the nodes is %s already" $key $port $place (get $taken $place)) }}
{{- end }}
{{- $_ := set $taken $place (printf "%s.netconfig.service.nodePorts.%s" $key $port) }}
{{- end }}
{{- end }}
{{- $disks := dict }}
{{- range $index, $disk := $vm.disks }}
{{- if hasKey $disks $disk.name }}
{{- fail (printf "%s.disks[%d].name: %s is there already: each disk has a name of its own" $key $index $disk.name) }}
{{- end }}
{{- $_ := set $disks $disk.name true }}
{{- end }}
{{- $spread := dict }}
{{- range $index, $constraint := ($vm.pod | default dict).topologySpreadConstraints }}
{{- $both := printf "%s %s" $constraint.topologyKey $constraint.whenUnsatisfiable }}
{{- if hasKey $spread $both }}
{{- fail (printf "%s.pod.topologySpreadConstraints[%d]: there is one of this topologyKey and whenUnsatisfiable already" $key $index) }}
{{- end }}
{{- $_ := set $spread $both true }}
{{- end }}
{{- include "berth.checkResources" (dict "key" (printf "%s.resources" $key) "values" $ "resources" $vm.resources) }}
{{- $cloud := $vm.cloudconfig | default dict }}
{{- $octets := 0 }}
{{- range $file := list "metadata" "userdata" "vendordata" "networkdata" }}
{{- $octets = add $octets (get $cloud $file | len) }}
{{- end }}
{{- if gt (int64 $octets) 1048576 }}
{{- fail (printf "%s.cloudconfig: these are %d octets, and a ConfigMap holds 1048576: let cloud-init fetch some (#include)" $key $octets) }}
{{- end }}
{{- end }}
{{- end }}
{{- include "berth.checkResources" (dict "key" "net_resources" "values" . "resources" .net_resources) }}
{{- end }}

{{- define "berth.checkPorts" -}}
{{- $ports := .net.ports | default dict }}
{{- if and .service.enabled (not $ports) }}
{{- fail (printf "%s.ports: a service needs some" .key) }}
{{- end }}
{{- range $which := list "nodePorts" "protocols" }}
{{- range $port, $_ := get $.service $which | default dict }}
{{- if not (hasKey $ports $port) }}
{{- fail (printf "%s.service.%s.%s: there is no port of this name in ports" $.key $which $port) }}
{{- end }}
{{- end }}
{{- end }}
{{- $taken := dict }}
{{- range $port, $number := $ports }}
{{- $place := printf "%d/%s" (int64 $number) (include "berth.protocol" (dict "net" $.net "port" $port)) }}
{{- if hasKey $taken $place }}
{{- fail (printf "%s.ports.%s: %s is %s already: give one another number, or another protocol in service.protocols" $.key $port $place (get $taken $place)) }}
{{- end }}
{{- $_ := set $taken $place $port }}
{{- end }}
{{- end }}

{{- define "berth.checkResources" -}}
{{- $resources := .resources | default dict }}
{{- range $kind := list "limits" "requests" }}
{{- range $name, $quantity := get $resources $kind | default dict }}
{{- if has $name (list $.values.devices.tun $.values.devices.kvm) }}
{{- fail (printf "%s.%s.%s: the chart asks for this device itself" $.key $kind $name) }}
{{- end }}
{{- $whole := or (contains "/" $name) (hasPrefix "hugepages-" $name) }}
{{- if and $whole (ne (include "berth.text" $quantity) (include "berth.text" (get ($resources.limits | default dict) $name))) }}
{{- fail (printf "%s.%s.%s: this is requested as it is limited: the same has to be in limits" $.key $kind $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
