#!/usr/bin/env bash
# Walks through Vigil's prediction API with curl and an example patient, who is discharged at the end:
#
#     VIGIL_TOKEN="$(vigil token)" docs/clients/walkthrough.sh http://127.0.0.1:3000
#
# URL and WARD can be set in the environment as well. docs/api.md explains each answer.
set -euo pipefail

URL=${1:-${URL:-http://127.0.0.1:3000}}
TOKEN=${VIGIL_TOKEN:?expected a token in the environment variable VIGIL_TOKEN, which other users cannot read; make one with vigil token}
WARD=${WARD:-example}
PATIENT=example-$(date +%s)-$$
NOW=$(date -u +%Y-%m-%dT%H:%M:%SZ)

# Token and patients do not appear in the list of processes: curl reads them from files. A request is sent again after a lost
# answer, 429 or 5xx, and after the pause that Retry-After names. Observations sent twice count once.
api() { # METHOD PATH [OPTION...]; reads the body from standard input
    local body=() method=$1 path=$2
    shift 2
    if [ "$method" = POST ]; then body=(--header 'Content-Type: application/json' --data-binary @-); fi
    curl --silent --show-error --fail-with-body --max-time 30 --retry 5 --retry-connrefused --request "$method" \
        --config <(printf 'header = "Authorization: Bearer %s"\n' "$TOKEN") "${body[@]}" "$@" "$URL$path"
}
title() { printf '\n== %s\n' "$1"; }

title "Check whether the server is ready (no token needed)"
curl --silent --show-error --fail "$URL/readyz"

title "Register the patient"
api POST /v1/patients <<< '{"patients": [{"patient_id": "'"$PATIENT"'", "ward": "'"$WARD"'", "age": 71, "sex": "female"}]}'

# Create a message_id once, and store it with the reading until it is accepted. The last reading is from a probe that slipped off.
reading() { # MESSAGE SIGNAL VALUE UNIT
    printf '{"message_id": "%s-%s", "patient_id": "%s", "signal": "%s", "value": %s, "unit": "%s", "observed_at": "%s"}' \
        "$PATIENT" "$1" "$PATIENT" "$2" "$3" "$4" "$NOW"
}
READINGS='{"observations": ['$(reading 1 heart_rate 131 /min)', '$(reading 2 respiratory_rate 28 /min)', '$(
    reading 3 systolic_bp 94 'mm[Hg]')', '$(reading 4 spo2 9 %)']}'

title "Send readings: a reading that cannot be used is quarantined with a reason"
api POST /v1/observations <<< "$READINGS"

title "Send the same messages again, as after a lost answer: duplicates count once"
api POST /v1/observations <<< "$READINGS"

title "The risk now, the contribution of each signal, and the risk range"
api POST /v1/risk <<< '{"patient_id": "'"$PATIENT"'", "include": ["contributions", "range"]}'

title "The risks of several patients: each item has a risk or a problem"
api POST /v1/risks <<< '{"patient_ids": ["'"$PATIENT"'", "unknown-patient"]}'

title "The risk from the readings in the request alone: only the prediction is stored"
api POST /v1/risk/observations <<< '{"patient_id": "'"$PATIENT"'", "age": 71, "observations": [
    {"signal": "heart_rate", "value": 131, "observed_at": "'"$NOW"'"}]}'

title "Past risks of the patient, and their trend"
api POST /v1/risk/history <<< '{"patient_id": "'"$PATIENT"'", "hours": 24}'

title "The distance of each vital sign from the patient's personal baseline"
api POST /v1/risk/anomalies <<< '{"patient_id": "'"$PATIENT"'"}'

title "A summary for a teleconsultation"
api POST /v1/visit-summary <<< '{"patient_id": "'"$PATIENT"'"}'

title "The patients of the ward, those with an open alarm first"
api GET "/v1/ward/patients?ward=$WARD"

title "Past events of the ward, then new ones for five seconds"
EVENTS=$(api GET "/v1/ward/events?ward=$WARD&seconds=5" --no-buffer --header 'Last-Event-ID: 0')
echo "$EVENTS"

title "Events of the ward since the last one received"
LAST=$(sed -n 's/^id: //p' <<< "$EVENTS" | tail -n 1)
api GET "/v1/ward/events?ward=$WARD&seconds=1" --no-buffer --header "Last-Event-ID: ${LAST:-0}"

title "Open alarms of the ward, newest first"
ALARMS=$(api GET "/v1/alarms?ward=$WARD&status=open")
echo "$ALARMS"

# The alarm of the example patient. With jq this would be simpler.
ALARM=$(grep -o '{"alarm_id":"[^"]*","patient_id":"'"$PATIENT"'"' <<< "$ALARMS" | head -n 1 | cut -d '"' -f 4 || true)
if [ -n "$ALARM" ]; then
    title "Acknowledge the alarm: a clinician takes care of it"
    api POST /v1/alarms/acknowledge <<< '{"alarm_id": "'"$ALARM"'"}'

    title "Override the alarm: state why it was not right (do not name a patient in the note)"
    api POST /v1/alarms/override <<< '{"alarm_id": "'"$ALARM"'", "reason": "other", "note": "an example"}'
else
    title "No alarm for this patient: the risk is below the threshold of the ward"
fi

title "Discharge the patient: monitoring stops and open alarms end"
api POST /v1/patients <<< '{"patients": [{"patient_id": "'"$PATIENT"'", "ward": "'"$WARD"'", "discharged": true}]}'
echo
