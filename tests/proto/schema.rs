//! `proto/caffe.proto` has every message, field, number, type and default of BVLC Caffe, and ours from 20001 on.

use cortado::proto::schema::pool;
use prost_reflect::{Cardinality, Kind, MessageDescriptor, Value};
use std::collections::BTreeSet;

/// A name below the package, as the table has it.
fn short(full: &str) -> String {
    full.trim_start_matches("caffe.").to_string()
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Message(m) => short(m.full_name()),
        Kind::Enum(e) => short(e.full_name()),
        scalar => format!("{scalar:?}"),
    }
}

/// The default as Python prints it, which the table was made with.
fn default_of(field: &prost_reflect::FieldDescriptor) -> String {
    if field.field_descriptor_proto().default_value.is_none() {
        return String::new();
    }
    match (field.default_value(), field.kind()) {
        (Value::Bool(true), _) => "True".to_string(),
        (Value::Bool(false), _) => "False".to_string(),
        (Value::F32(v), _) if v.fract() == 0.0 => format!("{v:.1}"),
        (Value::F32(v), _) if v < 1e-4 => format!("{v:e}").replace("e-", "e-0"),
        (Value::F32(v), _) => v.to_string(),
        (Value::I32(v), _) => v.to_string(),
        (Value::I64(v), _) => v.to_string(),
        (Value::U32(v), _) => v.to_string(),
        (Value::String(v), _) => v,
        (Value::EnumNumber(n), Kind::Enum(names)) => names.get_value(n).unwrap().name().to_string(),
        other => panic!("{}: default {other:?}", field.full_name()),
    }
}

fn rows_of(message: &MessageDescriptor) -> Vec<String> {
    let row = |f: prost_reflect::FieldDescriptor| {
        let label = match f.cardinality() {
            Cardinality::Optional => "optional",
            Cardinality::Required => "required",
            Cardinality::Repeated => "repeated",
        };
        let packed = if f.is_list() && f.is_packed() { "packed" } else { "" };
        let (name, kind, default) = (f.name(), type_of(&f.kind()), default_of(&f));
        format!(
            "{}\t{name}\t{}\t{label}\t{kind}\t{default}\t{packed}",
            short(message.full_name()),
            f.number()
        )
    };
    message.fields().map(row).collect()
}

#[test]
fn the_schema_is_bvlc_caffes_and_ours_starts_at_20001() {
    let pool = pool().unwrap();
    let mut ours: BTreeSet<String> = pool.all_messages().flat_map(|m| rows_of(&m)).collect();
    for names in pool.all_enums() {
        for value in names.values() {
            let name = short(names.full_name());
            ours.insert(format!("{name}\t{}\t{}\tenum-value\t\t\t", value.name(), value.number()));
        }
    }
    let table = std::fs::read_to_string(crate::golden("caffe-schema.tsv")).unwrap();
    // Lines end in tabs where the last columns are empty, and some editors cut them.
    let pad = |line: &str| format!("{line}{}", "\t".repeat(6 - line.matches('\t').count()));
    let theirs: BTreeSet<String> = table.lines().skip(1).map(pad).collect();
    assert!(theirs.len() > 500);
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "missing or different: {missing:#?}");
    for row in ours.difference(&theirs) {
        let columns: Vec<_> = row.split('\t').collect();
        let own_message = ["RankParameter", "ResumeState", "DataPosition"].contains(&columns[0]);
        assert!(own_message || columns[2].parse::<u32>().unwrap() >= 20001, "not Caffe's: {row}");
    }
}

#[test]
fn rank_param_is_as_agreed() {
    let message = pool().unwrap().get_message_by_name("caffe.RankParameter").unwrap();
    let expected = [
        "RankParameter\tneg_num\t1\toptional\tuint32\t1\t",
        "RankParameter\tpair_size\t2\toptional\tuint32\t1\t",
        "RankParameter\thard_ratio\t3\toptional\tfloat\t\t",
        "RankParameter\trand_ratio\t4\toptional\tfloat\t\t",
        "RankParameter\tmargin\t5\toptional\tfloat\t0.5\t",
    ];
    assert_eq!(rows_of(&message), expected);
    let layer = pool().unwrap().get_message_by_name("caffe.LayerParameter").unwrap();
    assert_eq!(layer.get_field_by_name("rank_param").unwrap().number(), 20001);
}
